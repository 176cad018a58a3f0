//! Luma and chroma to red, green and blue, in libjpeg's fixed point of 16 bits (`jdcolor.c`): JFIF's equations.

/// A factor in fixed point.
const fn fixed(value: f64) -> i32 {
    (value * 65536.0 + 0.5) as i32
}

const HALF: i32 = 1 << 15;

/// A row of pixels from a row of each plane.
#[inline(always)]
pub(super) fn rgb(luma: &[u8], blue: &[u8], red: &[u8], out: &mut [u8]) {
    let (pixels, _) = out.as_chunks_mut::<3>();
    for (pixel, ((&y, &cb), &cr)) in pixels.iter_mut().zip(luma.iter().zip(blue).zip(red)) {
        let y = i32::from(y);
        let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
        let r = y + ((fixed(1.402) * cr + HALF) >> 16);
        let g = y + ((HALF - fixed(0.34414) * cb - fixed(0.71414) * cr) >> 16);
        let b = y + ((fixed(1.772) * cb + HALF) >> 16);
        *pixel = [r, g, b].map(|value| value.clamp(0, 255) as u8);
    }
}

/// A row of pixels from planes that are red, green and blue already.
#[inline(always)]
pub(super) fn interleaved(planes: [&[u8]; 3], out: &mut [u8]) {
    let [red, green, blue] = planes;
    let (pixels, _) = out.as_chunks_mut::<3>();
    for (pixel, ((&r, &g), &b)) in pixels.iter_mut().zip(red.iter().zip(green).zip(blue)) {
        *pixel = [r, g, b];
    }
}
