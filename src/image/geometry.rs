//! Where the centre crop lies in the resized picture, in torchvision's integers.

use crate::{Error, Result};

/// The size of the resized picture and the place of the square crop in it, in pixels.
///
/// The numbers are those of torchvision's `Resize(ceil(size / 0.875))` followed by `CenterCrop(size)`.
/// They are 64 bits wide because a thin picture is resized to a very long one: 3 x 1000 becomes
/// 256 x 85333. Nothing of that size is ever stored, see [`Preprocessor`](super::Preprocessor).
///
/// ```
/// let geometry = aim_web::image::Geometry::new(500, 375, 224)?;
/// assert_eq!((geometry.resized_width, geometry.resized_height), (341, 256));
/// assert_eq!((geometry.top, geometry.left), (16, 58));
/// # Ok::<(), aim_web::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Width of the whole resized picture.
    pub resized_width: u64,
    /// Height of the whole resized picture.
    pub resized_height: u64,
    /// First row of the crop in the resized picture.
    pub top: u64,
    /// First column of the crop in the resized picture.
    pub left: u64,
    /// Width and height of the crop.
    pub size: u32,
}

impl Geometry {
    /// The geometry of a picture of `width` x `height` pixels for a crop of `size` x `size`.
    ///
    /// # Errors
    /// Kind `Image` if the picture has no pixels, kind `Option` if `size` is 0.
    pub fn new(width: u32, height: u32, size: u32) -> Result<Self> {
        if width == 0 || height == 0 {
            return Err(Error::image(format!(
                "the picture is {width} x {height}: it has no pixels"
            )));
        }
        if size == 0 {
            return Err(Error::option(
                "the crop is 0 pixels wide: it must be at least 1",
            ));
        }
        let shorter = resized_shorter(size);
        let (resized_width, resized_height) = if width <= height {
            (shorter, resized_longer(shorter, height, width))
        } else {
            (resized_longer(shorter, width, height), shorter)
        };
        Ok(Self {
            resized_width,
            resized_height,
            top: crop_offset(resized_height, size),
            left: crop_offset(resized_width, size),
            size,
        })
    }
}

/// `ceil(size / 0.875)`, exactly: `ceil(size * 8 / 7)`.
fn resized_shorter(size: u32) -> u64 {
    (u64::from(size) * 8).div_ceil(7)
}

/// `int(shorter * long / short)`. Python divides in f64, which can't change the integer part here:
/// a quotient that is no integer stays at least `1 / short` below the next one.
fn resized_longer(shorter: u64, long: u32, short: u32) -> u64 {
    shorter * u64::from(long) / u64::from(short)
}

/// `int(round((resized - size) / 2.0))`, where Python rounds a half to the even neighbour.
fn crop_offset(resized: u64, size: u32) -> u64 {
    let margin = resized.saturating_sub(u64::from(size));
    let half = margin / 2;
    half + (margin & half & 1)
}
