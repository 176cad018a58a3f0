//! Pictures as people have them: broken ones among good ones, folders, links, photographs of phones.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder as _, RgbImage};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use super::{aim_bench, json, read_tensor, refused, test_file};

const FIVE: &str = "photos/5/signer017-1296.jpg";
const DRESS: &str = "photos/dress/2456b899.jpg";

/// Exit code, standard output and standard error.
pub fn run(program: &mut Command) -> (i32, String, String) {
    let output = program.output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code().expect("no signal ended it"),
        text(output.stdout),
        text(output.stderr),
    )
}

pub fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A folder with a photograph of a five, three files that are no pictures, and a photograph of a dress.
fn mixed() -> (TempDir, Vec<PathBuf>) {
    let work = tempdir().expect("a temporary folder");
    let path = |name: &str| work.path().join(name);
    std::fs::copy(test_file(FIVE), path("1.jpg")).expect("copied");
    // What macOS leaves on other file systems.
    std::fs::write(path("._1.jpg"), b"").expect("written");
    std::fs::write(path("2.png"), b"\x89PNG\r\n\x1a\nno").expect("written");
    std::fs::copy(test_file(DRESS), path("4.png")).expect("copied");
    let paths = ["1.jpg", "._1.jpg", "2.png", "missing.jpg", "4.png"].map(path);
    (work, paths.to_vec())
}

#[test]
fn broken_pictures_do_not_end_classify() {
    let (_work, paths) = mixed();
    let (code, out, err) = run(aim_bench("classify").args(&paths).args(["--top-k", "1"]));
    assert_eq!(code, 1);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 4, "{out}");
    assert_eq!(lines[0], paths[0].to_str().unwrap());
    assert!(lines[1].ends_with("  5"), "{out}");
    // A JPEG that is called .png is one all the same.
    assert_eq!(lines[2], paths[4].to_str().unwrap());
    assert!(lines[3].ends_with("  dress"), "{out}");
    let errors: Vec<&str> = err.lines().collect();
    assert_eq!(errors.len(), 3, "{err}");
    for (line, path) in errors.iter().zip(&paths[1..4]) {
        let start = format!("error: {}: ", path.display());
        assert!(line.starts_with(&start), "{line}");
    }

    let (code, out, _) = run(aim_bench("classify").args(&paths).arg("--json"));
    assert_eq!(code, 1);
    let list = parsed(&out);
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), paths.len());
    for (number, (entry, path)) in list.iter().zip(&paths).enumerate() {
        assert_eq!(entry["image"].as_str(), path.to_str());
        let is_good = [0, 4].contains(&number);
        assert_eq!(entry["predictions"].is_array(), is_good, "{entry}");
        assert_eq!(entry["error"].is_string(), !is_good, "{entry}");
    }
    let reason = list[1]["error"].as_str().unwrap();
    assert!(reason.contains("empty") && reason.contains("._1.jpg"));
}

#[test]
fn classify_takes_standard_input_folders_and_patterns() {
    let plain = json(aim_bench("classify").arg(test_file(FIVE)));
    let mut program = aim_bench("classify");
    program.arg("-").pipe_stdin(test_file(FIVE)).expect("there");
    let piped = json(&mut program);
    assert_eq!(piped[0]["image"], "-");
    assert_eq!(piped[0]["predictions"], plain[0]["predictions"]);
    let line = refused(aim_bench("classify").arg("-").write_stdin(""));
    assert!(line.contains("-: the picture is empty"), "{line}");

    let work = tempdir().expect("a temporary folder");
    let inner = work.path().join("a/b");
    std::fs::create_dir_all(&inner).expect("created");
    for path in [
        work.path().join("z.JPG"),
        inner.join("[x].jpg"),
        inner.join("y.jpg"),
    ] {
        std::fs::copy(test_file(FIVE), path).expect("copied");
    }
    std::fs::write(inner.join("notes.txt"), b"no picture").expect("written");
    let images = |report: Value| -> Vec<String> {
        let list = report.as_array().unwrap().clone();
        list.iter()
            .map(|entry| {
                let path = Path::new(entry["image"].as_str().unwrap());
                let name = path.strip_prefix(work.path()).unwrap();
                name.to_str().unwrap().to_owned()
            })
            .collect()
    };
    let report = json(aim_bench("classify").arg(work.path()));
    assert_eq!(images(report), ["a/b/[x].jpg", "a/b/y.jpg", "z.JPG"]);
    let report = json(aim_bench("classify").arg(work.path().join("**/y*.jp?")));
    assert_eq!(images(report), ["a/b/y.jpg"]);
    // A file that is called like a pattern is that file.
    let report = json(aim_bench("classify").arg(inner.join("[x].jpg")));
    assert_eq!(images(report), ["a/b/[x].jpg"]);
    let line = refused(aim_bench("classify").arg(work.path().join("*.tif")));
    assert!(line.contains("*.tif"), "{line}");
}

#[test]
fn tiff_and_ppm_are_read() {
    for name in ["rgb_lzw.tif", "p6.ppm"] {
        let path = test_file("pictures/native").join(name);
        let report = json(aim_bench("classify").arg(path));
        assert!(report[0]["predictions"][0]["label"].is_string());
    }
    let line = refused(aim_bench("classify").arg(test_file("pictures/native/palette.tif")));
    assert!(line.contains("save it as 8-bit RGB"), "{line}");
}

/// The pictures of a class of the embedded model.
fn class(root: &Path, name: &str) -> PathBuf {
    let folder = root.join("val").join(name);
    std::fs::create_dir_all(&folder).expect("created");
    let photo = if name == "5" { FIVE } else { DRESS };
    std::fs::copy(test_file(photo), folder.join("photo.jpg")).expect("copied");
    folder
}

fn eval(root: &Path) -> Command {
    let mut program = aim_bench("eval");
    program.arg("--data-path").arg(root);
    program
}

#[test]
fn eval_goes_on_past_broken_pictures_and_counts_them() {
    let root = tempdir().expect("a temporary folder");
    let five = class(root.path(), "5");
    class(root.path(), "dress");
    std::fs::write(five.join("._photo.jpg"), b"").expect("written");
    let (code, out, err) = run(eval(root.path()).arg("--json"));
    assert_eq!(code, 1, "{err}");
    let report = parsed(&out);
    assert_eq!(report["pictures"], 2);
    assert_eq!(report["top_1"], 2);
    assert_eq!(report["broken"], 1);
    let broken = five.join("._photo.jpg");
    assert_eq!(report["errors"][0]["image"].as_str(), broken.to_str());
    assert!(err.starts_with(&format!("error: {}: ", broken.display())));
    assert_eq!(err.lines().count(), 1, "{err}");
    let (code, out, _) = run(&mut eval(root.path()));
    assert_eq!(code, 1);
    assert!(
        out.contains("1 broken") && out.contains("(2 pictures"),
        "{out}"
    );

    std::fs::remove_file(broken).expect("it was there");
    let (code, out, err) = run(eval(root.path()).arg("--json"));
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(parsed(&out)["broken"], 0);
}

#[cfg(unix)]
#[test]
fn eval_visits_a_folder_once_and_says_so() {
    use std::os::unix::fs::symlink;

    let work = tempdir().expect("a temporary folder");
    let root = work.path().join("data");
    let five = class(&root, "5");
    let dress = class(&root, "dress");
    let elsewhere = work.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("created");
    std::fs::copy(test_file(FIVE), elsewhere.join("other.jpg")).expect("copied");
    let before = json(&mut eval(&root));
    assert_eq!(before["pictures"], 2);

    // In a circle; to what the data lie in; to another class; to what is nowhere else, twice.
    for (target, link) in [
        (Path::new(".."), five.join("loop")),
        (work.path(), five.join("above")),
        (&dress, five.join("sister")),
        (&elsewhere, five.join("one")),
        (&elsewhere, five.join("two")),
        (&five, dress.join("back")),
    ] {
        symlink(target, link).expect("linked");
    }
    let (code, out, err) = run(eval(&root).arg("--json"));
    assert_eq!(code, 0, "{err}");
    let report = parsed(&out);
    assert_eq!(report["pictures"], 3);
    assert_eq!(report["classes"]["5"]["pictures"], 2);
    assert_eq!(report["classes"]["dress"]["pictures"], 1);
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(lines.len(), 5, "{err}");
    for line in lines {
        assert!(
            line.starts_with("warning: ") && line.contains("not visited again"),
            "{line}"
        );
    }

    // A class that is a link to another one has its pictures no more.
    symlink(&five, root.join("val/6")).expect("linked");
    let (code, out, err) = run(eval(&root).arg("--json"));
    assert_eq!(code, 0);
    assert_eq!(parsed(&out)["pictures"], 3);
    assert!(err.contains("val/6"), "{err}");
}

/// Writes a picture as a PNG whose EXIF data have this orientation.
fn write_turned(path: &Path, picture: &RgbImage, number: u8) {
    let mut exif = b"MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([number, 0, 0, 0, 0, 0, 0]);
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder
        .set_exif_metadata(exif)
        .expect("PNG has room for it");
    encoder
        .write_image(
            picture,
            picture.width(),
            picture.height(),
            ExtendedColorType::Rgb8,
        )
        .expect("it is a picture");
    std::fs::write(path, bytes).expect("the folder is writable");
}

#[test]
fn classify_turns_a_photograph_and_preprocess_says_that_it_does_not() {
    let work = tempdir().expect("a temporary folder");
    let path = |name: &str| work.path().join(name);
    let upright = image::load_from_memory(
        &std::fs::read(test_file("pictures/tiny_50x37.png")).expect("it is there"),
    )
    .expect("a picture")
    .to_rgb8();
    let sideways = image::imageops::rotate270(&upright);
    write_turned(&path("upright.png"), &upright, 1);
    write_turned(&path("phone.png"), &sideways, 6);
    write_turned(&path("sideways.png"), &sideways, 1);

    let labels = |name: &str, options: &[&str]| {
        json(aim_bench("classify").arg(path(name)).args(options))[0]["predictions"].clone()
    };
    let (right, wrong) = (labels("upright.png", &[]), labels("sideways.png", &[]));
    assert_ne!(right, wrong);
    assert_eq!(labels("phone.png", &[]), right);
    assert_eq!(labels("phone.png", &["--exif", "respect"]), right);
    assert_eq!(labels("phone.png", &["--exif", "ignore"]), wrong);

    let tensor = |name: &str, options: &[&str]| {
        let output = path("tensor.safetensors");
        let mut program = aim_bench("preprocess");
        program.arg(path(name)).arg("--output").arg(&output);
        let (code, _, err) = run(program.args(options));
        assert_eq!(code, 0, "{err}");
        (read_tensor(&output, "input").1, err)
    };
    let (upright, _) = tensor("upright.png", &[]);
    let (sideways, note) = tensor("sideways.png", &[]);
    assert_eq!(note, "", "there is nothing to say");
    let (ignored, note) = tensor("phone.png", &[]);
    assert!(ignored == sideways);
    assert!(
        note.starts_with("note: ") && note.contains("orientation (6)") && note.contains("--exif"),
        "{note}"
    );
    let (respected, note) = tensor("phone.png", &["--exif", "respect"]);
    assert!(respected == upright && note.is_empty());

    // eval follows the reference as well.
    let root = path("data");
    let folder = class(&root, "5");
    std::fs::copy(path("phone.png"), folder.join("phone.png")).expect("copied");
    let loss = |options: &[&str]| {
        let (code, out, err) = run(eval(&root).args(options).arg("--json"));
        assert_eq!(code, 0, "{err}");
        (parsed(&out)["loss"].as_f64().unwrap(), err)
    };
    // All folders have to be classes.
    let (ignored, note) = loss(&[]);
    assert!(note.contains("of 1 pictures is ignored"), "{note}");
    let (respected, note) = loss(&["--exif", "respect"]);
    assert!(ignored != respected && note.is_empty());
}

/// A pipe that nobody writes to, at this path.
#[cfg(unix)]
fn pipe(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.expect("it starts").success());
}

/// Ends a command that waits for ever.
#[cfg(unix)]
fn in_time(mut program: Command) -> Command {
    program.timeout(std::time::Duration::from_secs(60));
    program
}

#[cfg(unix)]
#[test]
fn nobody_waits_for_a_pipe() {
    use std::os::unix::fs::symlink;

    let work = tempdir().expect("a temporary folder");
    let path = |name: &str| work.path().join(name);
    let five = class(&path("data"), "5");
    pipe(&five.join("p.jpg"));
    symlink("p.jpg", five.join("lp.jpg")).expect("linked");
    symlink("photo.jpg", five.join("good.jpg")).expect("linked");
    symlink("nowhere.jpg", five.join("dangling.jpg")).expect("linked");
    let (code, out, err) = run(in_time(eval(&path("data"))).arg("--json"));
    assert_eq!(code, 1, "{err}");
    let report = parsed(&out);
    assert_eq!(
        (&report["pictures"], &report["broken"]),
        (&2.into(), &1.into())
    );
    assert!(err.contains("dangling.jpg"), "{err}");
    for images in [five.clone(), five.join("*.jpg")] {
        let (code, out, err) = run(in_time(aim_bench("classify")).arg(images).arg("--json"));
        assert_eq!(code, 1, "{err}");
        let list = parsed(&out);
        let entries = list.as_array().unwrap().iter();
        let named = entries.filter(|entry| entry["predictions"].is_array());
        assert_eq!(named.count(), 2, "{out}");
    }

    for name in ["x.tar", "x.parquet", "in.safetensors"] {
        pipe(&path(name));
    }
    for program in [
        eval(&path("x.tar")),
        eval(&path("x.parquet")),
        eval(&path("*.tar")),
    ] {
        let line = refused(&mut in_time(program));
        assert!(line.contains("is not a regular file"), "{line}");
    }
    let mut program = in_time(aim_bench("run"));
    program.arg("--input").arg(path("in.safetensors"));
    let line = refused(program.arg("--output").arg(path("out.safetensors")));
    assert!(line.contains("is not a regular file"), "{line}");

    // Named outright it is read: somebody may write to it.
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_aim-bench"));
    let classify = program
        .args(["classify", "--device", "cpu", "--json"])
        .arg(five.join("p.jpg"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let bytes = std::fs::read(test_file(FIVE)).expect("readable");
    std::fs::write(five.join("p.jpg"), bytes).expect("written");
    let output = classify.wait_with_output().expect("it ends");
    let list = parsed(&String::from_utf8(output.stdout).expect("UTF-8"));
    assert_eq!(list[0]["predictions"][0]["label"], "5");
}

#[cfg(unix)]
#[test]
fn a_file_that_is_too_large_is_not_read() {
    let work = tempdir().expect("a temporary folder");
    let path = work.path().join("holes.png");
    // It takes no room on the disk, but would in memory.
    let file = std::fs::File::create(&path).expect("created");
    file.set_len((1 << 30) + 1).expect("it has room for holes");
    let line = refused(aim_bench("classify").arg(&path));
    assert!(line.contains("too many for a picture"), "{line}");
}

#[cfg(target_os = "linux")]
#[test]
fn two_names_that_are_no_text_stay_two() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let work = tempdir().expect("a temporary folder");
    let paths = [b"u\xff.jpg", b"u\xfe.jpg"].map(|name| work.path().join(OsStr::from_bytes(name)));
    for path in &paths {
        std::fs::copy(test_file(FIVE), path).expect("copied");
    }
    let list = json(aim_bench("classify").args(&paths));
    for (entry, name) in list
        .as_array()
        .unwrap()
        .iter()
        .zip(["u\\xff.jpg", "u\\xfe.jpg"])
    {
        let image = entry["image"].as_str().unwrap();
        assert!(image.ends_with(name), "{image}");
    }
    let (_, out, _) = run(aim_bench("classify").args(&paths));
    assert!(
        out.contains("u\\xff.jpg\n") && out.contains("u\\xfe.jpg\n"),
        "{out}"
    );
}
