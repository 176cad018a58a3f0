//! Pictures to patches.

/// Cuts pictures into patches, row by row; what is left over at the right and at the bottom is dropped.
///
/// # Shapes
/// - `images`: `[batch, channels, height, width]`
/// - output: `[batch, rows * columns, channels * patch height * patch width]`, and that shape
pub fn patches(
    images: &[f32],
    [batch, channels, height, width]: [usize; 4],
    [patch_height, patch_width]: [usize; 2],
) -> (Vec<f32>, [usize; 3]) {
    let (rows, columns) = (height / patch_height.max(1), width / patch_width.max(1));
    let shape = [batch, rows * columns, channels * patch_height * patch_width];
    let mut patches = Vec::with_capacity(shape.iter().product());
    for picture in images.chunks((channels * height * width).max(1)) {
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)))
        {
            for channel in picture.chunks(height * width) {
                let lines = channel.chunks(width).skip(row * patch_height);
                for line in lines.take(patch_height) {
                    let start = column * patch_width;
                    let line = line.get(start..start + patch_width).unwrap_or_default();
                    patches.extend_from_slice(line);
                }
            }
        }
    }
    (patches, shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_may_have_unequal_sides() {
        let images: Vec<f32> = (0..2 * 5 * 4).map(|i| i as f32).collect();
        // Two channels of five lines of four; the fifth line is left over.
        let (patches, shape) = patches(&images, [1, 2, 5, 4], [2, 4]);
        assert_eq!(shape, [1, 2, 16]);
        let line = |first: usize| (first..first + 8).map(|i| i as f32);
        let expected: Vec<f32> = [0, 20, 8, 28].into_iter().flat_map(line).collect();
        assert_eq!(patches, expected);
    }
}
