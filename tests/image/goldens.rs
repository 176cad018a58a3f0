//! Preprocessing against outputs of the reference: Pillow's decoders and torchvision's transforms.
//!
//! `pictures/reference.json` holds the hashes of the reference on its pictures, `pictures/formats.json`
//! those of Pillow on small pictures in the many layouts that the formats allow. The same tests run natively
//! and in a browser.

use crate::picture_files::{json, number, read, sha256, sha256_f32, text};
use aim_web::image::{Geometry, Preprocessor, RgbImage, decode};
use serde_json::Value;
#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn reference() -> Value {
    json("reference.json")
}

fn files(reference: &Value) -> impl Iterator<Item = (String, &Value)> {
    reference["files"].as_array().unwrap().iter().map(|entry| {
        (
            text(&entry["file"])
                .trim_start_matches("pictures/")
                .to_owned(),
            entry,
        )
    })
}

/// The largest and the mean difference of two pictures of one size, in levels.
fn difference(a: &RgbImage, b: &RgbImage) -> (u8, f64) {
    assert_eq!(a.dimensions(), b.dimensions());
    let differences = || {
        a.as_raw()
            .iter()
            .zip(b.as_raw())
            .map(|(a, b)| a.abs_diff(*b))
    };
    let sum: f64 = differences().map(f64::from).sum();
    (differences().max().unwrap(), sum / a.as_raw().len() as f64)
}

#[test]
fn exact_formats_give_the_reference_bit_for_bit() {
    let preprocessor = Preprocessor::new(224).unwrap();
    let reference = reference();
    let mut seen = 0;
    for (file, entry) in files(&reference) {
        if file == "cmyk.jpg" || file == "gray16.png" {
            continue;
        }
        let picture = decode(&read(&file)).unwrap();
        assert_eq!(
            sha256(&picture),
            text(&entry["decoded_rgb_sha256"]),
            "{file}: decoded"
        );
        let crop = preprocessor.crop(&picture);
        assert_eq!(
            sha256(&crop),
            text(&entry["crop_u8_sha256"]),
            "{file}: crop"
        );
        let tensor = preprocessor.tensor(&picture);
        assert_eq!(
            sha256_f32(&tensor),
            text(&entry["tensor_f32_sha256"]),
            "{file}: tensor"
        );
        seen += 1;
    }
    assert_eq!(seen, 7);
}

#[test]
fn sixteen_bit_grey_takes_the_high_byte() {
    let reference = reference();
    let (_, entry) = files(&reference)
        .find(|(file, _)| file == "gray16.png")
        .unwrap();
    let crop = Preprocessor::new(224)
        .unwrap()
        .crop(&decode(&read("gray16.png")).unwrap());
    assert_eq!(sha256(&crop), text(&entry["crop_u8_sha256_if_high_byte"]));
    assert_eq!(crop, decode(&read("gray16.png.highbyte.crop.png")).unwrap());
}

#[test]
fn the_resize_of_a_jpeg_is_exact_from_pillows_pixels() {
    let reference = reference();
    let (_, entry) = files(&reference)
        .find(|(file, _)| file == "cmyk.jpg")
        .unwrap();
    let decoded = decode(&read("cmyk.jpg.decoded.png")).unwrap();
    assert_eq!(sha256(&decoded), text(&entry["decoded_rgb_sha256"]));
    let preprocessor = Preprocessor::new(224).unwrap();
    assert_eq!(
        sha256(&preprocessor.crop(&decoded)),
        text(&entry["crop_u8_sha256"])
    );
    assert_eq!(
        sha256_f32(&preprocessor.tensor(&decoded)),
        text(&entry["tensor_f32_sha256"])
    );
}

#[test]
fn the_crop_of_a_jpeg_in_inks_is_within_three_levels() {
    let crop = Preprocessor::new(224)
        .unwrap()
        .crop(&decode(&read("cmyk.jpg")).unwrap());
    let expected = decode(&read("cmyk.jpg.crop.png")).unwrap();
    let (largest, mean) = difference(&crop, &expected);
    assert!(largest <= 3 && mean <= 0.3, "{largest} levels, mean {mean}");
}

#[test]
fn exif_orientation_is_not_applied() {
    assert_eq!(
        decode(&read("exif_rot6.jpg")).unwrap().dimensions(),
        (240, 160)
    );
}

#[test]
fn every_size_and_offset_is_torchvisions() {
    let reference = reference();
    let pair = |value: &Value| (number(&value[0]), number(&value[1]));
    let table = reference["resize_table"].as_array().unwrap();
    assert_eq!(table.len(), 20);
    for row in table {
        let (width, height) = pair(&row["wh"]);
        let geometry = Geometry::new(
            u32::try_from(width).unwrap(),
            u32::try_from(height).unwrap(),
            224,
        )
        .unwrap();
        let resized = (geometry.resized_width, geometry.resized_height);
        assert_eq!(resized, pair(&row["resized_wh"]), "{width} x {height}");
        assert_eq!(
            (geometry.top, geometry.left),
            pair(&row["crop_top_left"]),
            "{width} x {height}"
        );
    }
    for size in [336, 448] {
        let transform = &reference[format!("val_transforms_{size}")];
        let geometry = Geometry::new(1000, 1000, size).unwrap();
        assert_eq!(geometry.resized_width, number(&transform["resize_shorter"]));
        assert_eq!(u64::from(geometry.size), number(&transform["crop"]));
    }
}

#[test]
fn every_layout_is_decoded_and_resized_as_pillow_does() {
    let formats = json("formats.json");
    let cases = formats.as_array().unwrap();
    assert!(cases.len() >= 40);
    for case in cases {
        let file = text(&case["file"]);
        let picture =
            decode(&read(&format!("formats/{file}"))).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(u64::from(picture.width()), number(&case["wh"][0]), "{file}");
        assert_eq!(
            u64::from(picture.height()),
            number(&case["wh"][1]),
            "{file}"
        );
        if let Some(exact) = case["png"].as_str() {
            // A lossy decoder: compared with Pillow's pixels, levels and mean.
            let expected = decode(&read(&format!("formats/{exact}"))).unwrap();
            let (largest, mean) = difference(&picture, &expected);
            // JPEG in colours is libjpeg-turbo's to the bit.
            if file.ends_with(".jpg") && !matches!(file, "jcmyk4.jpg" | "jycck.jpg") {
                assert_eq!(largest, 0, "{file}");
            }
            assert!(
                u64::from(largest) <= number(&case["levels"]),
                "{file}: {largest} levels"
            );
            assert!(mean <= 0.5, "{file}: mean {mean}");
            continue;
        }
        assert_eq!(sha256(&picture), text(&case["rgb"]), "{file}: decoded");
        for (size, hash) in case["crops"].as_object().unwrap() {
            let crop = Preprocessor::new(size.parse().unwrap())
                .unwrap()
                .crop(&picture);
            assert_eq!(sha256(&crop), text(hash), "{file}: crop {size}");
        }
    }
}
