//! The resize of the crop alone against a plain resize of the whole picture.

use aim_web::image::{Geometry, MEAN, Preprocessor, RgbImage, STD};
use proptest::prelude::*;

/// Pillow's bicubic resize of a whole picture along x, written without a thought for speed.
fn resize_x(picture: &RgbImage, width: u32) -> RgbImage {
    if picture.width() == width {
        return picture.clone();
    }
    let scale = f64::from(picture.width()) / f64::from(width);
    let stretch = scale.max(1.0);
    let cubic = |x: f64| match x.abs() {
        x if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
        _ => 0.0,
    };
    RgbImage::from_fn(width, picture.height(), |x, y| {
        let center = (f64::from(x) + 0.5) * scale;
        let start = (center - 2.0 * stretch + 0.5).max(0.0) as u32;
        let end = ((center + 2.0 * stretch + 0.5) as u32).min(picture.width());
        let weights: Vec<f64> = (start..end)
            .map(|at| cubic((f64::from(at) - center + 0.5) * (1.0 / stretch)))
            .collect();
        let total: f64 = weights.iter().fold(0.0, |sum, weight| sum + weight);
        let mut sums = [1_i64 << 21; 3];
        for (at, weight) in (start..end).zip(weights) {
            let weight = weight / total;
            let fixed = (weight * f64::from(1 << 22) + 0.5_f64.copysign(weight)) as i64;
            for (sum, value) in sums.iter_mut().zip(picture.get_pixel(at, y).0) {
                *sum += fixed * i64::from(value);
            }
        }
        image::Rgb(sums.map(|sum| (sum >> 22).clamp(0, 255) as u8))
    })
}

fn transpose(picture: &RgbImage) -> RgbImage {
    RgbImage::from_fn(picture.height(), picture.width(), |x, y| {
        *picture.get_pixel(y, x)
    })
}

fn whole(picture: &RgbImage, size: u32) -> RgbImage {
    let geometry = Geometry::new(picture.width(), picture.height(), size).unwrap();
    let short = |long: u64| u32::try_from(long).unwrap();
    let (w, h) = (
        short(geometry.resized_width),
        short(geometry.resized_height),
    );
    let resize_y = |picture: &RgbImage| transpose(&resize_x(&transpose(picture), h));
    // Pillow 13 begins with the height where it shrinks by far more than the width.
    let lost = |from: u32, to: u32| i64::from(from) - i64::from(to);
    let (lost_w, lost_h) = (lost(picture.width(), w), lost(picture.height(), h));
    let resized = if lost_h > 0 && lost_h > 2 * lost_w {
        resize_x(&resize_y(picture), w)
    } else {
        resize_y(&resize_x(picture, w))
    };
    image::imageops::crop_imm(
        &resized,
        short(geometry.left),
        short(geometry.top),
        size,
        size,
    )
    .to_image()
}

/// Noise, hard black and white among it, from a seed.
fn noise(width: u32, height: u32, seed: u32) -> RgbImage {
    let mut state = seed | 1;
    RgbImage::from_fn(width, height, |_, _| {
        image::Rgb([(); 3].map(|()| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            match state >> 30 {
                0 => 0,
                1 => 255,
                _ => state.to_le_bytes()[0],
            }
        }))
    })
}

/// The picture as a browser's `ImageData`.
fn rgba(picture: &RgbImage) -> Vec<u8> {
    picture
        .pixels()
        .enumerate()
        .flat_map(|(i, pixel)| [pixel[0], pixel[1], pixel[2], i as u8])
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_crop_equals_the_crop_of_the_whole(
        width in 1_u32..70, height in 1_u32..70, size in 1_u32..40, seed: u32,
    ) {
        let picture = noise(width, height, seed);
        let preprocessor = Preprocessor::new(size as usize).unwrap();
        prop_assert_eq!(preprocessor.crop(&picture), whole(&picture, size));
        let tensor = preprocessor.tensor_rgba(&rgba(&picture), width as usize, height as usize).unwrap();
        prop_assert_eq!(tensor, preprocessor.tensor(&picture));
    }

    #[test]
    fn thin_pictures_cost_nothing(long in 1_u32..200_000, short in 1_u32..4, upright: bool, size in 1_usize..64) {
        let picture = if upright { RgbImage::new(short, long) } else { RgbImage::new(long, short) };
        prop_assert_eq!(Preprocessor::new(size).unwrap().tensor(&picture).len(), 3 * size * size);
    }
}

#[test]
fn large_and_strong_reductions_equal_the_whole() {
    for (width, height, size) in [
        (519, 311, 15),
        (900, 40, 30),
        (33, 800, 28),
        (256, 300, 224),
        (300, 256, 224),
    ] {
        let picture = noise(width, height, 9);
        let crop = Preprocessor::new(size as usize).unwrap().crop(&picture);
        assert_eq!(crop, whole(&picture, size), "{width} x {height} to {size}");
    }
}

#[test]
fn the_tensor_is_in_planes_and_normalised() {
    let mut picture = RgbImage::new(8, 8);
    picture
        .pixels_mut()
        .for_each(|pixel| pixel.0 = [255, 51, 0]);
    let tensor = Preprocessor::new(7).unwrap().tensor(&picture);
    let expected = [1.0, 0.2, 0.0];
    for (channel, plane) in tensor.chunks_exact(49).enumerate() {
        let value = (expected[channel] - MEAN[channel]) / STD[channel];
        assert!(
            plane.iter().all(|&x| (x - value).abs() < 1e-6),
            "channel {channel}"
        );
    }
}
