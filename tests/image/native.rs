//! What is read natively alone: TIFF and PPM, as Pillow reads them (`pictures/native.json`).

use crate::picture_files::{json, number, read, sha256, text};
use aim_web::ErrorKind;
use aim_web::image::{Orientation, decode, decode_upright, orientation};
use proptest::prelude::*;
use serde_json::Value;

fn files() -> Vec<(String, Value)> {
    let entries = json("native.json");
    entries
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (format!("native/{}", text(&entry["file"])), entry.clone()))
        .collect()
}

#[test]
fn tiff_and_ppm_give_the_bytes_of_pillow() {
    let mut seen = 0;
    for (file, entry) in files() {
        let bytes = read(&file);
        if entry["rgb"].is_null() {
            let error = decode(&bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Image);
            assert!(
                error.to_string().contains("save it as 8-bit RGB"),
                "{error}"
            );
            continue;
        }
        let picture = decode(&bytes).unwrap_or_else(|error| panic!("{file}: {error}"));
        let [width, height] = [0, 1].map(|side| number(&entry["wh"][side]));
        assert_eq!(
            (u64::from(picture.width()), u64::from(picture.height())),
            (width, height),
            "{file}"
        );
        assert_eq!(sha256(&picture), text(&entry["rgb"]), "{file}");
        // Pillow turns a TIFF itself: not twice.
        assert_eq!(orientation(&bytes), Orientation::NoTransforms, "{file}");
        assert_eq!(decode_upright(&bytes).unwrap(), picture, "{file}");
        seen += 1;
    }
    assert_eq!(seen, 27);
}

#[test]
fn a_tag_of_more_values_than_bytes_is_refused() {
    for file in ["native/rgb_raw.tif", "native/cmyk.tif"] {
        let mut bytes = read(file);
        let directory = u32::from_le_bytes(*bytes[4..].first_chunk().unwrap()) as usize;
        // The decoder would make room for them: 200 MB.
        let count = directory + 2 + 4;
        bytes[count..count + 4].copy_from_slice(&6_488_065_u32.to_le_bytes());
        let error = decode(&bytes).unwrap_err();
        assert!(error.to_string().contains("more values"), "{file}: {error}");
    }
}

#[test]
fn an_error_does_not_list_all_samples() {
    let mut bytes = read("native/rgb_raw.tif");
    let directory = u32::from_le_bytes(*bytes[4..].first_chunk().unwrap()) as usize;
    let tags = usize::from(u16::from_le_bytes(
        *bytes[directory..].first_chunk().unwrap(),
    ));
    for nth in 0..tags {
        let tag = &mut bytes[directory + 2 + 12 * nth..][..12];
        match u16::from_le_bytes(*tag.first_chunk().unwrap()) {
            // Without bits for each sample they have one each, of very many.
            258 => tag[..2].copy_from_slice(&60_000_u16.to_le_bytes()),
            277 => tag[8..10].copy_from_slice(&20_000_u16.to_le_bytes()),
            _ => {}
        }
    }
    let message = decode(&bytes).unwrap_err().to_string();
    assert!(
        message.len() < 500,
        "{} bytes: {message:.200}",
        message.len()
    );
}

#[test]
fn tiff_and_ppm_that_are_cut_short_are_refused() {
    for (file, entry) in files() {
        let bytes = read(&file);
        // A PPM of digits may end inside of its last number, and the second page of a TIFF is not read.
        if entry["rgb"].is_null() || file.contains("pages") {
            continue;
        }
        for part in [1, 10, 100, 500, 900].map(|part| bytes.len() * part / 1000) {
            let error = decode(&bytes[..part]).err();
            assert!(error.is_some(), "{file}: {part} of {}", bytes.len());
        }
    }
}

#[test]
fn a_size_that_does_not_fit_is_refused_before_it_is_allocated() {
    for header in ["P6 100000 100000 255 ", "P4 4000000000 4000000000 "] {
        let error = decode(header.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("at most 178956970"), "{error}");
    }
    let error = decode(b"P6 13000 13000 65535 ").unwrap_err().to_string();
    assert!(error.contains("cut short"), "{error}");
    // The width, the height and the rows of a strip.
    let mut tiff = read("native/grey.tif");
    for (tag, value) in [(256_u16, 100_000_u32), (257, 100_000), (278, 100_000)] {
        let directory = u32::from_le_bytes(tiff[4..8].try_into().unwrap()) as usize;
        let at = (0..20)
            .map(|entry| directory + 2 + 12 * entry)
            .find(|&at| tiff[at..at + 2] == tag.to_le_bytes())
            .unwrap();
        tiff[at + 2..at + 4].copy_from_slice(&4_u16.to_le_bytes());
        tiff[at + 8..at + 12].copy_from_slice(&value.to_le_bytes());
    }
    let error = decode(&tiff).unwrap_err().to_string();
    assert!(error.contains("at most 178956970"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn broken_bytes_give_an_error_or_a_picture(
        file in 0_usize..31,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let files = files();
        let (name, _) = &files[file % files.len()];
        let mut bytes = read(name);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Err(error) = decode(&bytes) {
            prop_assert_eq!(error.kind(), ErrorKind::Image);
        }
    }
}
