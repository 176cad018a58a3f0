//! Data sets in archives and tables.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};
use tempfile::tempdir;

use super::eval::{eval, photos};
use super::pictures::{parsed, run};
use super::{aim_bench, json, refused, test_file};

/// The photographs of the tests with their classes, in the order of a folder of classes.
fn pictures() -> Vec<(String, PathBuf)> {
    let mut all = Vec::new();
    for class in fs::read_dir(test_file("photos")).expect("the photographs are there") {
        let class = class.expect("readable").path();
        if class.is_dir() {
            let name = class.file_name().unwrap().to_string_lossy().into_owned();
            for photo in fs::read_dir(&class).expect("readable") {
                all.push((name.clone(), photo.expect("readable").path()));
            }
        }
    }
    all.sort();
    all
}

/// The number of a class in the model inside the program.
fn number(class: &str) -> usize {
    let labels = fs::read_to_string(test_file("../models/aim-tiny/labels.json")).expect("there");
    let labels: Vec<String> = serde_json::from_str(&labels).expect("a list");
    labels
        .iter()
        .position(|label| label == class)
        .expect("a class")
}

/// An archive of files.
fn write_tar(path: &Path, files: &[(String, Vec<u8>)]) {
    let mut archive = tar::Builder::new(File::create(path).expect("created"));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, bytes.as_slice())
            .expect("written");
    }
    archive.finish().expect("written");
}

/// The counts alone.
fn counts(report: &Value) -> Value {
    let mut counts = json!({});
    for key in ["pictures", "top_1", "top_5", "loss", "broken", "mean_loss"] {
        // What is missing on both sides is no agreement.
        assert!(report[key].is_number(), "{key} of {report}");
        counts[key] = report[key].clone();
    }
    counts
}

fn of_folder(work: &Path) -> Value {
    let root = work.join("folder");
    photos(&root, 1);
    json(&mut eval(&root))
}

#[test]
fn archives_of_webdataset_are_read() {
    let work = tempdir().expect("a temporary folder");
    let expected = counts(&of_folder(work.path()));
    let mut shards = [const { Vec::new() }; 3];
    for (n, (class, photo)) in pictures().into_iter().enumerate() {
        let bytes = fs::read(&photo).expect("readable");
        let ending = photo.extension().unwrap().to_str().unwrap();
        let shard = &mut shards[n * 3 / 24];
        // In either order, in a folder or not.
        let key = if n % 2 == 0 {
            format!("{n:06}")
        } else {
            format!("./x.y/{n:06}")
        };
        let picture = (format!("{key}.{ending}"), bytes);
        let class = (
            format!("{key}.cls"),
            format!("{}\n", number(&class)).into_bytes(),
        );
        let other = (format!("{key}.json"), b"{}".to_vec());
        shard.extend(if n % 3 == 0 {
            [class, picture, other]
        } else {
            [picture, other, class]
        });
    }
    for (n, files) in shards.iter().enumerate() {
        write_tar(&work.path().join(format!("shard-{n:03}.tar")), files);
    }
    for pattern in [
        "shard-{000..002}.tar",
        "shard-*.tar",
        "shard-{000,001,002}.tar",
    ] {
        let report = json(&mut eval(&work.path().join(pattern)));
        assert_eq!(counts(&report), expected, "{pattern}");
        assert_eq!(report["classes_by"], "number");
        assert_eq!(report["classes"]["10"]["label"], "dress");
    }
    let report = json(&mut eval(&work.path().join("shard-001.tar")));
    assert_eq!(report["pictures"], 8);
    let line = refused(&mut eval(&work.path().join("shard-{000..003}.tar")));
    assert!(line.contains("shard-003.tar is not there"), "{line}");

    // Without a class it can't be counted.
    let alone = work.path().join("alone.tar");
    write_tar(&alone, &shards[0][1..]);
    let line = refused(&mut eval(&alone));
    assert!(
        line.contains("alone.tar/000000.jpg: has no class"),
        "{line}"
    );
    // A class that the model does not have.
    let mut files = shards[1].clone();
    files.push(("zz.cls".to_owned(), b"21".to_vec()));
    files.push(("zz.jpg".to_owned(), b"".to_vec()));
    write_tar(&alone, &files);
    let line = refused(&mut eval(&alone));
    assert!(
        line.contains("class 21 is none of the model's 21"),
        "{line}"
    );

    // Cut anywhere.
    let whole = fs::read(work.path().join("shard-000.tar")).expect("readable");
    let cut = work.path().join("cut.tar");
    for len in [
        100,
        700,
        whole.len() / 3,
        whole.len() / 2,
        whole.len() - 1024,
    ] {
        fs::write(&cut, &whole[..len]).expect("written");
        let line = refused(&mut eval(&cut));
        assert!(
            line.contains("cut.tar: ") && line.contains("cut short") || line.contains("broken one"),
            "{len}: {line}"
        );
    }
    fs::write(&cut, b"").expect("written");
    let line = refused(&mut eval(&cut));
    assert!(line.contains("cut.tar"), "{line}");
    let packed = work.path().join("shard.tar.gz");
    fs::write(&packed, b"\x1f\x8b").expect("written");
    assert!(refused(&mut eval(&packed)).contains("must be unpacked"));
    fs::write(&cut, vec![b'x'; 4096]).expect("written");
    assert!(refused(&mut eval(&cut)).contains("no tar archive"));
}

#[test]
fn a_sample_of_webdataset_is_one_picture_whatever_its_other_fields() {
    let work = tempdir().expect("a temporary folder");
    let expected = counts(&of_folder(work.path()));
    let mut files = Vec::new();
    for (n, (class, photo)) in pictures().into_iter().enumerate() {
        let bytes = fs::read(&photo).expect("readable");
        let class = number(&class).to_string().into_bytes();
        let ending = photo.extension().unwrap().to_str().unwrap();
        files.extend([
            (format!("a.b/{n:03}.depth.png"), bytes.clone()),
            (format!("a.b/{n:03}.{ending}"), bytes),
            (format!("a.b/{n:03}.seg.png"), b"no picture".to_vec()),
            (format!("a.b/{n:03}.cls"), class),
        ]);
    }
    let path = work.path().join("shard.tar");
    write_tar(&path, &files);
    assert_eq!(counts(&json(&mut eval(&path))), expected);

    let mut two = files.clone();
    two.push(("a.b/000.bmp".to_owned(), b"".to_vec()));
    write_tar(&path, &two);
    let line = refused(&mut eval(&path));
    assert!(
        line.contains("shard.tar: the sample \"a.b/000\" has two pictures"),
        "{line}"
    );
    write_tar(&path, &files[2..]);
    let line = refused(&mut eval(&path));
    assert!(line.contains("is a.b/000.seg.png its picture?"), "{line}");
}

#[test]
fn an_archive_of_a_folder_of_classes_is_read() {
    let work = tempdir().expect("a temporary folder");
    let expected = counts(&of_folder(work.path()));
    let files: Vec<(String, Vec<u8>)> = pictures()
        .into_iter()
        .map(|(class, photo)| {
            let name = photo.file_name().unwrap().to_string_lossy().into_owned();
            (
                format!("./val/{class}/{name}"),
                fs::read(photo).expect("readable"),
            )
        })
        .collect();
    let path = work.path().join("val.tar");
    write_tar(&path, &files);
    let report = json(&mut eval(&path));
    assert_eq!(counts(&report), expected);
    assert_eq!(report["classes_by"], "label");
}

/// A picture data set as the hub's library writes it.
fn write_parquet(path: &Path, rows: &[(Option<Vec<u8>>, i64)], names: Option<&[&str]>) {
    let schema = "message schema {
        optional group image { optional binary bytes; optional binary path (UTF8); }
        optional int64 label;
    }";
    let about = names.map(|names| {
        let label = json!({ "names": names, "_type": "ClassLabel" });
        let features = json!({ "image": { "_type": "Image" }, "label": label });
        let text = json!({ "info": { "features": features } }).to_string();
        vec![KeyValue::new("huggingface".to_owned(), text)]
    });
    let properties = WriterProperties::builder()
        .set_key_value_metadata(about)
        .set_data_page_row_count_limit(7)
        .set_write_batch_size(7)
        .build();
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let file = File::create(path).expect("created");
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).expect("begun");
    for rows in rows.chunks(40) {
        let mut group = writer.next_row_group().expect("begun");
        let levels: Vec<i16> = rows
            .iter()
            .map(|(bytes, _)| if bytes.is_some() { 2 } else { 1 })
            .collect();
        let pictures: Vec<ByteArray> = rows
            .iter()
            .filter_map(|(bytes, _)| bytes.clone())
            .map(ByteArray::from)
            .collect();
        let mut column = group.next_column().expect("begun").expect("a column");
        column
            .typed::<ByteArrayType>()
            .write_batch(&pictures, Some(&levels), None)
            .expect("written");
        column.close().expect("written");
        let mut column = group.next_column().expect("begun").expect("a column");
        column
            .typed::<ByteArrayType>()
            .write_batch(&[], Some(&vec![1; rows.len()]), None)
            .expect("written");
        column.close().expect("written");
        let labels: Vec<i64> = rows.iter().map(|(_, label)| *label).collect();
        let mut column = group.next_column().expect("begun").expect("a column");
        column
            .typed::<Int64Type>()
            .write_batch(&labels, Some(&vec![1; rows.len()]), None)
            .expect("written");
        column.close().expect("written");
        group.close().expect("written");
    }
    writer.close().expect("written");
}

#[test]
fn tables_of_the_hub_are_read() {
    let work = tempdir().expect("a temporary folder");
    let expected = of_folder(work.path());
    let rows = |number: &dyn Fn(&str) -> i64| -> Vec<(Option<Vec<u8>>, i64)> {
        pictures()
            .into_iter()
            .map(|(class, photo)| (Some(fs::read(photo).expect("readable")), number(&class)))
            .collect()
    };
    let path = |name: &str| work.path().join(name);
    // Numbers of the model's classes.
    write_parquet(
        &path("numbers.parquet"),
        &rows(&|class| number(class) as i64),
        None,
    );
    let report = json(&mut eval(&path("numbers.parquet")));
    assert_eq!(counts(&report), counts(&expected));
    assert_eq!(report["classes_by"], "number");
    // Names in another order, one of them without pictures; in two files of several groups.
    let names: Vec<String> = {
        let mut names: Vec<String> = expected["classes"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        names.reverse();
        names
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let by_name = |class: &str| names.iter().position(|name| *name == class).unwrap() as i64;
    let many: Vec<_> = std::iter::repeat_with(|| rows(&by_name))
        .take(5)
        .flatten()
        .collect();
    write_parquet(&path("train-0.parquet"), &many[..70], Some(&names));
    write_parquet(&path("train-1.parquet"), &many[70..], Some(&names));
    let report = json(&mut eval(&path("train-{0..1}.parquet")));
    assert_eq!(report["pictures"], 120);
    assert_eq!(report["top_1"], 120);
    assert_eq!(report["classes_by"], "label");
    let five = |report: &Value| report["loss"].as_f64().unwrap();
    assert!((five(&report) - 5.0 * five(&expected)).abs() < 1e-6);

    // Rows without a picture are broken ones; those without a class end it.
    let mut some = rows(&by_name);
    some[3].0 = None;
    some[4].0 = Some(b"no picture".to_vec());
    write_parquet(&path("some.parquet"), &some, Some(&names));
    let (code, out, err) = run(eval(&path("some.parquet")).arg("--json"));
    assert_eq!(code, 1);
    let report = parsed(&out);
    assert_eq!(
        (&report["pictures"], &report["broken"]),
        (&json!(22), &json!(2))
    );
    assert!(
        err.contains("some.parquet#0.3: the row has no picture"),
        "{err}"
    );
    some[5].1 = -1;
    write_parquet(&path("some.parquet"), &some, Some(&names));
    let line = refused(&mut eval(&path("some.parquet")));
    assert!(line.contains("some.parquet#0.5: has no class"), "{line}");

    // Other columns, other classes, no Parquet at all, a cut one.
    let schema = Arc::new(
        parse_message_type("message m { required int64 label; required binary text; }").unwrap(),
    );
    let writer = SerializedFileWriter::new(
        File::create(path("other.parquet")).unwrap(),
        schema,
        Arc::default(),
    );
    let mut writer = writer.expect("begun");
    let mut group = writer.next_row_group().expect("begun");
    while let Some(column) = group.next_column().expect("begun") {
        column.close().expect("written");
    }
    group.close().expect("written");
    writer.close().expect("written");
    let line = refused(&mut eval(&path("other.parquet")));
    assert!(
        line.contains("`image.bytes`") && line.contains("but `label`, `text`"),
        "{line}"
    );
    write_parquet(&path("train-1.parquet"), &many[70..80], Some(&names[1..]));
    let line = refused(&mut eval(&path("train-{0..1}.parquet")));
    assert!(
        line.contains("train-1.parquet: its classes are not those of"),
        "{line}"
    );
    let whole = fs::read(path("numbers.parquet")).expect("readable");
    for len in [0, 3, whole.len() / 2, whole.len() - 1] {
        fs::write(path("cut.parquet"), &whole[..len]).expect("written");
        let line = refused(&mut eval(&path("cut.parquet")));
        assert!(
            line.contains("cut.parquet: is no Parquet file, or a broken one"),
            "{line}"
        );
    }
}

#[test]
fn features_of_pictures_without_classes() {
    let work = tempdir().expect("a temporary folder");
    let files: Vec<(String, Vec<u8>)> = pictures()
        .into_iter()
        .take(3)
        .enumerate()
        .map(|(n, (_, photo))| (format!("{n}.jpg"), fs::read(photo).expect("readable")))
        .collect();
    let path = work.path().join("x.tar");
    write_tar(&path, &files);
    let out = work.path().join("out");
    let mut program = aim_bench("features");
    program
        .arg("--data-path")
        .arg(&path)
        .arg("--output")
        .arg(&out);
    assert_eq!(json(&mut program)["pictures"], 3);
}

#[test]
fn a_split_that_is_named_is_there_or_an_error() {
    let work = tempdir().expect("a temporary folder");
    let path = |name: &str| work.path().join(name);
    photos(&path("data/train"), 1);
    photos(&path("data/test"), 2);
    let of = |data: &Path, split: &str| {
        let mut program = eval(data);
        program.args(["--split", split]);
        program
    };
    assert_eq!(json(&mut of(&path("data"), "train"))["pictures"], 24);
    assert_eq!(json(&mut of(&path("data"), "test"))["pictures"], 48);
    let line = refused(&mut of(&path("data"), "tset"));
    assert!(
        line.contains("has no split \"tset\": it has test, train"),
        "{line}"
    );
    // In a folder of classes there is none.
    let classes = path("data/train");
    assert_eq!(json(&mut eval(&classes))["pictures"], 24);
    let line = refused(&mut of(&classes, "val"));
    assert!(line.contains("has no split \"val\""), "{line}");

    let rows: Vec<_> = pictures()
        .into_iter()
        .map(|(class, photo)| {
            let bytes = fs::read(photo).expect("readable");
            (Some(bytes), number(&class) as i64)
        })
        .collect();
    for (name, rows) in [
        ("train-00000-of-00002.parquet", &rows[..10]),
        ("train-00001-of-00002.parquet", &rows[10..15]),
        ("test-00000-of-00001.parquet", &rows[15..]),
    ] {
        write_parquet(&path(name), rows, None);
    }
    let all = path("*.parquet");
    assert_eq!(json(&mut of(&all, "train"))["pictures"], 15);
    assert_eq!(json(&mut of(&all, "test"))["pictures"], 9);
    assert_eq!(json(&mut eval(&all))["pictures"], 24);
    let line = refused(&mut of(&all, "validation"));
    assert!(line.contains("it has test, train"), "{line}");

    let archive = path("val.tar");
    write_tar(&archive, &[("5/a.jpg".to_owned(), b"".to_vec())]);
    let line = refused(&mut of(&archive, "val"));
    assert!(line.contains("leave --split out"), "{line}");
}

/// Adds a link to an archive.
fn add_link(archive: &mut tar::Builder<File>, kind: tar::EntryType, name: &str, target: &str) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(0o644);
    archive
        .append_link(&mut header, name, target)
        .expect("written");
}

#[test]
fn links_in_an_archive_are_the_pictures_that_they_lead_to() {
    let work = tempdir().expect("a temporary folder");
    let path = work.path().join("links.tar");
    let photo = |class: &str| {
        let all = pictures();
        let (_, photo) = all.iter().find(|(name, _)| name == class).expect("a class");
        fs::read(photo).expect("readable")
    };
    let mut archive = tar::Builder::new(File::create(&path).expect("created"));
    let add = |archive: &mut tar::Builder<File>, name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, bytes)
            .expect("written");
    };
    let (hard, soft) = (tar::EntryType::Link, tar::EntryType::Symlink);
    // What others lead to need not be called as a picture.
    add(&mut archive, "blobs/five", &photo("5"));
    add(&mut archive, "val/dress/a.jpg", &photo("dress"));
    add_link(&mut archive, hard, "val/dress/b.jpg", "./val/dress/a.jpg");
    add_link(&mut archive, soft, "val/dress/c.jpg", "b.jpg");
    add_link(&mut archive, soft, "val/5/a.jpg", "../../blobs/five");
    archive.finish().expect("written");
    let (code, out, err) = run(eval(&path).arg("--json"));
    assert_eq!((code, err.as_str()), (0, ""));
    let report = parsed(&out);
    assert_eq!(report["classes"]["dress"]["pictures"], 3);
    assert_eq!(report["classes"]["5"]["pictures"], 1);
    assert_eq!(report["top_1"], 4);

    // Classes that are told apart by files of their own, one of them for two pictures.
    let shard = work.path().join("shard.tar");
    let mut archive = tar::Builder::new(File::create(&shard).expect("created"));
    add(&mut archive, "0.jpg", &photo("dress"));
    add(
        &mut archive,
        "0.cls",
        number("dress").to_string().as_bytes(),
    );
    add_link(&mut archive, hard, "1.jpg", "0.jpg");
    add_link(&mut archive, hard, "1.cls", "0.cls");
    archive.finish().expect("written");
    let report = json(&mut eval(&shard));
    assert_eq!(
        (&report["pictures"], &report["top_1"]),
        (&json!(2), &json!(2))
    );

    // What leads nowhere, out, or in a circle.
    let mut archive = tar::Builder::new(File::create(&shard).expect("created"));
    add(&mut archive, "val/dress/a.jpg", &photo("dress"));
    add_link(&mut archive, hard, "val/dress/b.jpg", "elsewhere.jpg");
    add_link(&mut archive, soft, "val/dress/c.jpg", "/etc/passwd");
    add_link(&mut archive, soft, "val/dress/d.jpg", "../../../five.jpg");
    add_link(&mut archive, soft, "val/dress/e.jpg", "e.jpg");
    archive.finish().expect("written");
    let (code, out, err) = run(eval(&shard).arg("--json"));
    assert_eq!(code, 0, "{err}");
    assert_eq!(parsed(&out)["pictures"], 1);
    assert!(
        err.starts_with("warning: ") && err.contains("shard.tar: 4 files are left out"),
        "{err}"
    );
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn braces_of_absurd_numbers_are_refused() {
    let name = format!("{{{}..5}}.tar", "0".repeat(70_000));
    let line = refused(&mut eval(Path::new(&name)));
    assert!(line.contains("braces hold a range"), "{line}");
}
