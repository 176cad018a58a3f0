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
