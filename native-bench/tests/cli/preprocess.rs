//! `preprocess`: the tensor of a picture.

use std::path::Path;

use tempfile::tempdir;

use super::{aim_bench, read_tensor, refused, test_file};

fn preprocess(picture: &Path, options: &[&str]) -> (Vec<usize>, Vec<f32>) {
    let work = tempdir().expect("a temporary folder");
    let output = work.path().join("input.safetensors");
    aim_bench("preprocess")
        .arg(picture)
        .arg("--output")
        .arg(&output)
        .args(options)
        .assert()
        .success();
    read_tensor(&output, "input")
}

#[test]
fn the_crop_is_pillows_bit_for_bit() {
    let (shape, values) = preprocess(&test_file("pictures/tiny_50x37.png"), &[]);
    assert_eq!(shape, [1, 3, 224, 224]);
    let crop = image::open(test_file("pictures/tiny_50x37.png.crop.png"))
        .expect("the expected crop is there")
        .to_rgb8();
    let (mean, std) = ([0.485_f32, 0.456, 0.406], [0.229_f32, 0.224, 0.225]);
    assert_eq!(crop.dimensions(), (224, 224));
    for (x, y, pixel) in crop.enumerate_pixels() {
        for channel in 0..3 {
            let expected = (f32::from(pixel.0[channel]) / 255.0 - mean[channel]) / std[channel];
            let at = (channel * 224 + y as usize) * 224 + x as usize;
            assert_eq!(values[at], expected, "channel {channel} at {x}, {y}");
        }
    }
}

#[test]
fn the_size_is_the_models_or_the_one_asked_for() {
    let picture = test_file("pictures/tiny_50x37.png");
    assert_eq!(
        preprocess(&picture, &["--img-size", "96"]).0,
        [1, 3, 96, 96]
    );
    let model = test_file("../models/aim-tiny");
    let model = model.to_str().expect("UTF-8");
    assert_eq!(
        preprocess(&picture, &["--model", model]).0,
        [1, 3, 112, 112]
    );
    let sized = ["--model", model, "--img-size", "96", "--device", "cpu"];
    assert_eq!(preprocess(&picture, &sized).0, [1, 3, 96, 96]);
    // Its configuration is enough.
    let config = format!("{model}/config.json");
    assert_eq!(
        preprocess(&picture, &["--config", &config]).0,
        [1, 3, 112, 112]
    );
    let mut program = aim_bench("preprocess");
    program
        .arg(&picture)
        .args(["--output", "unused.safetensors"]);
    let line = refused(program.args(["--config", "no/such.json"]));
    assert!(line.contains("no/such.json"), "{line}");
}

#[test]
fn a_trunk_is_for_a_model_that_is_named() {
    for more in [&[][..], &["--config", "x"]] {
        let mut program = aim_bench("preprocess");
        program.arg(test_file("pictures/gray.png")).args(more);
        program.args(["--output", "unused.safetensors", "--trunk", "x"]);
        let line = refused(&mut program);
        assert!(
            line.contains("--trunk") && line.contains("--model"),
            "{line}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_is_replaced_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt as _;

    let work = tempdir().expect("a temporary folder");
    let file = work.path().join("input.safetensors");
    std::fs::write(&file, "earlier").expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
    let mut program = aim_bench("preprocess");
    program.arg(test_file("pictures/gray.png"));
    program.arg("--output").arg(&file).assert().success();
    let meta = file.metadata().expect("it is there");
    assert!(meta.len() > 7);
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
}

#[test]
fn several_pictures_make_one_tensor() {
    let [first, second] = ["pictures/tiny_50x37.png", "pictures/gray.png"].map(test_file);
    let alone = [&first, &second].map(|picture| preprocess(picture, &[]).1);
    let second = second.to_str().expect("UTF-8");
    let (shape, values) = preprocess(&first, &[second]);
    assert_eq!(shape, [2, 3, 224, 224]);
    assert_eq!(values, alone.concat());
}

#[test]
fn a_place_that_cannot_be_written_is_named_and_stays_as_it_was() {
    let work = tempdir().expect("a temporary folder");
    for place in [
        work.path().join("missing/input.safetensors"),
        work.path().to_owned(),
    ] {
        let line = refused(
            aim_bench("preprocess")
                .arg(test_file("pictures/tiny_50x37.png"))
                .arg("--output")
                .arg(&place),
        );
        let name = place.to_str().expect("UTF-8");
        assert!(
            line.contains(&format!("{name}: can't be written")),
            "{line}"
        );
    }
    let there = std::fs::read_dir(work.path()).expect("listed");
    assert_eq!(there.count(), 0);
}
