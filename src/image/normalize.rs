//! From 8-bit pixels to the normalised planes that the model reads.

/// Mean of `ImageNet`'s red, green and blue, on a scale where white is 1.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];

/// Standard deviation of `ImageNet`'s red, green and blue, on the same scale.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Interleaved RGB bytes to three planes, red, green, blue: `(byte / 255 - mean) / std`.
///
/// The operations and their order are those of torchvision's `ToTensor` and `Normalize` in f32, so the
/// floats are equal to the last bit. A trailing part of a pixel is left out.
pub(super) fn planes(rgb: &[u8]) -> Vec<f32> {
    let mut out = Vec::with_capacity(rgb.len());
    for (channel, (mean, std)) in MEAN.into_iter().zip(STD).enumerate() {
        let table: [f32; 256] = std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std);
        out.extend(
            rgb.chunks_exact(3)
                .filter_map(|pixel| pixel.get(channel))
                .map(|&byte| table[usize::from(byte)]),
        );
    }
    out
}
