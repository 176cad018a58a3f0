//! Broken and hostile pictures: a clear error, never a panic.

use crate::picture_files::{all, read};
use aim_web::ErrorKind;
use aim_web::image::{Preprocessor, RgbImage, decode};
use proptest::prelude::*;

/// Decodes, or checks that the error is one for a person.
fn refused(bytes: &[u8]) -> Option<String> {
    let error = decode(bytes).err()?;
    assert_eq!(error.kind(), ErrorKind::Image);
    let message = error.to_string();
    assert!(message.len() > 20 && !message.contains('\n'), "{message:?}");
    Some(message)
}

#[test]
fn what_is_no_picture_is_named() {
    for (bytes, part) in [
        (&b""[..], "empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\xEF\xBB\xBF\n <svg/>", "SVG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
        (b"hello", "no picture"),
        (
            b"II*\0\x08\0\0\0",
            if cfg!(target_family = "wasm") {
                "Tiff"
            } else {
                "TIFF"
            },
        ),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "Avif"),
        (b"\xFF\xD8\xFF\xD9", "no picture"),
        (b"\xFF\xD8\xFF", "cut short"),
        (b"GIF89a", "cut short"),
        (b"BM", "cut short"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"RIFF\x10\0\0\0WEBP", "cut short"),
    ] {
        let message = refused(bytes).unwrap();
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn a_picture_cut_in_half_is_refused() {
    // Of an animation the first frame may be whole.
    for (name, bytes) in all()
        .into_iter()
        .filter(|(name, _)| !name.contains("anim") && !name.contains("apng"))
    {
        for part in [1, 10, 100, 500, 900].map(|part| bytes.len() * part / 1000) {
            assert!(
                refused(&bytes[..part]).is_some(),
                "{name}: {part} of {} bytes",
                bytes.len()
            );
        }
    }
}

#[test]
fn a_jpeg_without_its_last_bytes_is_refused() {
    let bytes = read("prog_420.jpg");
    for cut in 1..200 {
        assert!(refused(&bytes[..bytes.len() - cut]).is_some(), "{cut}");
    }
}

#[test]
fn a_jpeg_of_endless_scans_is_refused() {
    let bytes = read("prog_420.jpg");
    let scans: Vec<usize> = (0..bytes.len())
        .filter(|&at| bytes[at..].starts_with(b"\xFF\xDA"))
        .collect();
    assert_eq!(scans.len(), 10);
    // It says the last bits of the first coefficients, which changes nothing, however often it comes.
    let (before, rest) = bytes.split_at(scans[6]);
    let (scan, after) = rest.split_at(scans[7] - scans[6]);
    let repeated = |times: usize| [before, &scan.repeat(times), after].concat();
    assert_eq!(decode(&repeated(91)).unwrap(), decode(&bytes).unwrap());
    assert!(refused(&repeated(92)).unwrap().contains("scans"));
    // Also where the picture is another decoder's.
    let arithmetic: Vec<u8> = repeated(92)
        .iter()
        .scan(0, |before, &byte| {
            let is_frame = *before == 0xFF && byte == 0xC2;
            *before = byte;
            Some(if is_frame { 0xCA } else { byte })
        })
        .collect();
    assert!(refused(&arithmetic).unwrap().contains("scans"));
}

/// A few bytes of a scan make a decoder go through the whole picture.
#[test]
fn a_jpeg_that_says_the_same_again_is_refused() {
    for (name, allowed) in [
        ("formats/j420.jpg", 1),
        ("formats/jcmyk4.jpg", 1),
        // Its fourth scan says the upper bits of the coefficients of a chroma, and another one the last: 2 of 8 passes.
        ("prog_420.jpg", 7),
    ] {
        let bytes = read(name);
        let mut scans: Vec<usize> = (0..bytes.len())
            .filter(|&at| bytes[at..].starts_with(b"\xFF\xDA"))
            .collect();
        scans.push(bytes.len() - 2);
        let repeated = |scan: usize, times: usize| {
            let (before, rest) = bytes.split_at(scans[scan]);
            let (scan, after) = rest.split_at(scans[scan + 1] - scans[scan]);
            [before, &scan.repeat(times), after].concat()
        };
        let scan = if scans.len() == 2 { 0 } else { 3 };
        assert_eq!(
            decode(&repeated(scan, allowed)).unwrap(),
            decode(&bytes).unwrap(),
            "{name}"
        );
        let message = refused(&repeated(scan, allowed + 1)).unwrap_or_default();
        assert!(message.contains("more scans"), "{name}: {message}");
    }
}

#[test]
fn restart_markers_that_nothing_asks_for_take_no_memory() {
    let bytes = read("prog_420.jpg");
    // Behind the first scan, before the next marker.
    let scans: Vec<usize> = (0..bytes.len())
        .filter(|&at| bytes[at..].starts_with(b"\xFF\xDA"))
        .collect();
    let end = (scans[0] + 2..scans[1])
        .find(|&at| bytes[at] == 0xFF && !matches!(bytes[at + 1], 0 | 0xD0..=0xD7))
        .unwrap();
    let (before, after) = bytes.split_at(end);
    let many = [before, &b"\xFF\xD0".repeat(1 << 20), after].concat();
    assert_eq!(decode(&many).unwrap(), decode(&bytes).unwrap());
}

/// A frame of a lossy WebP that says it is of another size than the picture, and of four hundred megabytes.
#[test]
fn a_frame_of_another_size_takes_no_memory() {
    let mut frame = b"\x10\0\0\x9d\x01\x2a\xff\x3f\xff\x3f".to_vec();
    frame.resize(64, 7);
    let chunk = |name: &[u8; 4], content: &[u8]| {
        let len = u32::try_from(content.len()).unwrap().to_le_bytes();
        [&name[..], &len, content].concat()
    };
    let file = |chunks: &[Vec<u8>]| chunk(b"RIFF", &[b"WEBP".to_vec(), chunks.concat()].concat());
    // Of 40 x 30, with alpha; then animated.
    let canvas = |flags: u8| chunk(b"VP8X", &[flags, 0, 0, 0, 39, 0, 0, 29, 0, 0]);
    let alpha = chunk(b"ALPH", &[0; 2]);
    let still = file(&[canvas(0x10), alpha.clone(), chunk(b"VP8 ", &frame)]);
    let place = [0, 0, 0, 0, 0, 0, 39, 0, 0, 29, 0, 0, 50, 0, 0, 2];
    let inside = [&place[..], &alpha, &chunk(b"VP8 ", &frame)].concat();
    let animated = file(&[
        canvas(0x12),
        chunk(b"ANIM", &[0; 6]),
        chunk(b"ANMF", &inside),
    ]);
    // Its last chunk says that it goes on, which the decoder does not mind.
    let mut long = file(&[canvas(0x10), alpha, chunk(b"VP8 ", &frame)]);
    let at = long.windows(4).position(|name| name == b"VP8 ").unwrap();
    long[at + 4..at + 8].copy_from_slice(&[0, 1, 0, 0]);
    // A frame that is an animation itself, of which nobody looks into the frames.
    let nested = [
        &place[..],
        &canvas(0x12),
        &chunk(b"ANIM", &[0; 6]),
        &chunk(b"ANMF", &inside),
    ]
    .concat();
    let nested = file(&[
        canvas(0x12),
        chunk(b"ANIM", &[0; 6]),
        chunk(b"ANMF", &nested),
    ]);
    let message = refused(&nested).unwrap_or_default();
    assert!(message.contains("an animation in a frame"), "{message}");
    for (name, bytes) in [("still", still), ("animated", animated), ("long", long)] {
        let message = refused(&bytes).unwrap_or_default();
        assert!(
            message.contains("is 40 x 30, but its frame 16383 x 16383"),
            "{name}: {message}"
        );
    }
}

#[test]
fn what_is_not_read_is_named() {
    for (bytes, says) in [
        (&b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..], "HEIC"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "video"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "Avif"),
        (b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0", "BigTIFF"),
        (b"MM\0+\0\x08\0\0\0\0\0\0\0\0\0\x10", "BigTIFF"),
    ] {
        let error = refused(bytes).unwrap();
        assert!(
            error.contains(says) && error.contains("JPEG or PNG"),
            "{error}"
        );
    }
}

/// A PNG of no pixels whose header claims this size.
fn png(width: u32, height: u32) -> Vec<u8> {
    png_of(&[
        (b"IHDR", &png_header(width, height, 2)),
        (b"IDAT", b"\x78\x9C\x03\0\0\0\0\x01"),
    ])
}

/// The header of a PNG of 8 bits in a kind of colours.
fn png_header(width: u32, height: u32, colors: u8) -> Vec<u8> {
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    [&size[..], &[8, colors, 0, 0, 0]].concat()
}

/// A PNG of chunks, with their lengths and sums.
fn png_of(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, content) in chunks {
        let body = [&kind[..], content].concat();
        file.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
        file.extend(&body);
        file.extend(crc32(&body).to_be_bytes());
    }
    file
}

#[test]
fn a_palette_of_a_part_of_a_colour_is_refused() {
    let file = |palette: &[u8]| {
        png_of(&[
            (b"IHDR", &png_header(1, 1, 3)),
            // Before the palette there may be more.
            (b"gAMA", &[0, 0, 0xB1, 0x8F]),
            (b"PLTE", palette),
            // A row of one pixel, not compressed.
            (b"IDAT", b"\x78\x01\x01\x02\0\xFD\xFF\0\0\0\x02\0\x01"),
            (b"IEND", b""),
        ])
    };
    let picture = decode(&file(&[1, 2, 3])).unwrap();
    assert_eq!(picture.into_raw(), [1, 2, 3]);
    for len in [1, 2, 4, 5, 43, 767] {
        let message = refused(&file(&vec![7; len])).unwrap_or_default();
        assert!(message.contains("broken"), "{len}: {message}");
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn a_size_beyond_the_limit_is_refused_before_it_is_allocated() {
    for (width, height) in [
        (17_000, 17_000),
        (0x7FFF_FFFF, 0x7FFF_FFFF),
        (178_956_971, 1),
    ] {
        let message = refused(&png(width, height)).unwrap();
        assert!(
            message.contains("at most 178956970") || message.contains("too large"),
            "{message}"
        );
    }
    let mut jpeg = read("prog_420.jpg");
    let frame = jpeg
        .windows(2)
        .position(|pair| pair == [0xFF, 0xC2])
        .unwrap();
    jpeg[frame + 5..frame + 9].fill(0xFF);
    assert!(refused(&jpeg).unwrap().contains("65535 x 65535"));
    jpeg[frame + 5..frame + 9].fill(0);
    assert!(refused(&jpeg).unwrap().contains("no pixels"));
    // Within the limit for pixels, but a progressive decoder would hold 1.6 GB.
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x34, 0, 0x34, 0]);
    assert!(refused(&jpeg).unwrap().contains("bytes to decode"));

    let mut gif = b"GIF89a\xFF\xFF\xFF\xFF\x80\0\0\0\0\0\xFF\xFF\xFF".to_vec();
    gif.extend(b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;");
    assert!(refused(&gif).unwrap().contains("65535 x 65535"));
}

#[test]
fn a_crop_size_out_of_range_is_an_option_error() {
    for size in [0, 4097, usize::MAX] {
        assert_eq!(
            Preprocessor::new(size).unwrap_err().kind(),
            ErrorKind::Option
        );
    }
    assert_eq!(Preprocessor::new(4096).unwrap().img_size(), 4096);
}

#[test]
fn image_data_of_the_wrong_length_is_refused() {
    let preprocessor = Preprocessor::new(8).unwrap();
    for (len, width, height) in [
        (15, 2, 2),
        (17, 2, 2),
        (12, 2, 2),
        (4, usize::MAX, 2),
        (4, 0, 1),
    ] {
        let error = preprocessor
            .tensor_rgba(&vec![0; len], width, height)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Option, "{error}");
    }
    let error = preprocessor.tensor_rgba(&[], 0, 7).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Image);
}

#[test]
fn a_picture_without_pixels_is_black() {
    let crop = Preprocessor::new(8).unwrap().crop(&RgbImage::new(0, 5));
    assert_eq!(crop, RgbImage::new(8, 8));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(
        magic in prop::sample::select(vec![
            &b""[..], b"\xFF\xD8\xFF", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF\0\0\0\0WEBPVP8 ",
            b"RIFF\0\0\0\0WEBPVP8L", b"RIFF\0\0\0\0WEBPVP8X\x0A\0\0\0\x02\0\0\0",
        ]),
        tail in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        refused(&[magic, &tail].concat());
    }
}

proptest! {
    // Each case damages every picture once.
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_pictures_never_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..12),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        for (_, mut bytes) in all() {
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()).max(1));
            }
            for (at, value, in_header) in &damage {
                let len = if *in_header { bytes.len().min(80) } else { bytes.len() };
                bytes[at.index(len)] = *value;
            }
            refused(&bytes);
        }
    }
}
