//! Photographs whose EXIF data say how the camera was held.

use crate::picture_files::read;
use aim_web::image::{Orientation, RgbImage, decode, decode_upright, orientation};
use image::ImageEncoder as _;
use image::codecs::png::PngEncoder;

/// EXIF data of one entry.
fn exif(number: u16, is_big_endian: bool) -> Vec<u8> {
    let u16s = |number: u16| match is_big_endian {
        true => number.to_be_bytes(),
        false => number.to_le_bytes(),
    };
    let u32s = |number: u32| match is_big_endian {
        true => number.to_be_bytes(),
        false => number.to_le_bytes(),
    };
    let mut bytes = if is_big_endian { b"MM" } else { b"II" }.to_vec();
    bytes.extend(u16s(42));
    bytes.extend(u32s(8));
    bytes.extend(u16s(1));
    bytes.extend(u16s(0x0112));
    bytes.extend(u16s(3));
    bytes.extend(u32s(1));
    bytes.extend(u16s(number));
    bytes.extend([0; 6]);
    bytes
}

/// A JPEG file with EXIF data.
fn jpeg(jpeg: &[u8], exif: &[u8]) -> Vec<u8> {
    let mut bytes = b"\xFF\xD8\xFF\xE1".to_vec();
    bytes.extend((exif.len() as u16 + 8).to_be_bytes());
    bytes.extend(b"Exif\0\0");
    bytes.extend(exif);
    bytes.extend(&jpeg[2..]);
    bytes
}

fn png(picture: &RgbImage, exif: Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif).unwrap();
    let (width, height) = picture.dimensions();
    encoder
        .write_image(picture, width, height, image::ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

#[test]
fn jpeg_and_png_are_turned_as_their_exif_data_say() {
    let plain = read("prog_420.jpg");
    let picture = decode(&plain).unwrap();
    let (width, height) = picture.dimensions();
    for number in 1..=8 {
        for is_big_endian in [false, true] {
            let exif = exif(number, is_big_endian);
            for bytes in [jpeg(&plain, &exif), png(&picture, exif.clone())] {
                assert_eq!(u16::from(orientation(&bytes).to_exif()), number);
                assert_eq!(decode(&bytes).unwrap(), picture, "the reference ignores it");
                let upright = decode_upright(&bytes).unwrap();
                let swapped = if number > 4 {
                    (height, width)
                } else {
                    (width, height)
                };
                assert_eq!(upright.dimensions(), swapped, "{number}");
                let mut expected = image::DynamicImage::ImageRgb8(picture.clone());
                expected.apply_orientation(Orientation::from_exif(number as u8).unwrap());
                assert_eq!(upright, expected.into_rgb8(), "{number}");
            }
        }
    }
}

#[test]
fn exif_data_without_sense_turn_nothing() {
    let plain = read("prog_420.jpg");
    let good = exif(6, true);
    let mut broken = vec![exif(0, true), exif(9, false), exif(0xFF06, true)];
    broken.extend((0..good.len() - 5).map(|len| good[..len].to_vec()));
    for exif in broken {
        let bytes = jpeg(&plain, &exif);
        assert_eq!(orientation(&bytes), Orientation::NoTransforms, "{exif:?}");
        assert_eq!(decode_upright(&bytes).unwrap(), decode(&plain).unwrap());
    }
}

#[test]
fn what_is_no_picture_turns_nothing() {
    for bytes in [&b""[..], b"\xFF\xD8\xFF", b"\x89PNG\r\n\x1a\n", b"RIFF"] {
        assert_eq!(orientation(bytes), Orientation::NoTransforms);
        decode_upright(bytes).unwrap_err();
    }
}
