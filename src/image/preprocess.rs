//! Resize, crop and normalise in one object.

use ::image::RgbImage;

use super::geometry::Geometry;
use super::normalize::planes;
use super::resize::{Pixels, resized_crop};
use crate::{Error, Result};

/// The largest crop, in pixels a side.
const MAX_SIZE: usize = 4096;

/// AIM's transform of a picture: resize the shorter side to `ceil(size / 0.875)` with Pillow's bicubic
/// filter, crop the centre `size` x `size`, scale to 0..1, normalise by [`MEAN`](super::MEAN) and
/// [`STD`](super::STD).
///
/// The result equals that of AIM v1's validation transform (torchvision on Pillow) bit for bit, given
/// the same RGB pixels. The resized picture is never stored: memory beyond the result is at most
/// `3 * size` bytes for each row of the source.
///
/// ```
/// use aim_web::image::{Preprocessor, RgbImage};
///
/// let preprocessor = Preprocessor::new(224)?;
/// let tensor = preprocessor.tensor(&RgbImage::new(640, 480));
/// assert_eq!(tensor.len(), 3 * 224 * 224);
/// # Ok::<(), aim_web::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preprocessor {
    size: u32,
}

impl Preprocessor {
    /// For a model that reads pictures of `img_size` x `img_size` pixels.
    ///
    /// # Errors
    /// Kind `Option` if `img_size` is not in 1..=4096.
    pub fn new(img_size: usize) -> Result<Self> {
        match u32::try_from(img_size) {
            Ok(size) if (1..=MAX_SIZE).contains(&img_size) => Ok(Self { size }),
            _ => Err(Error::option(format!(
                "a picture size of {img_size} pixels is out of range: it must be 1 to {MAX_SIZE}"
            ))),
        }
    }

    /// Width and height of the crop, in pixels.
    pub const fn img_size(&self) -> usize {
        self.size as usize
    }

    /// The resized and cropped picture, `img_size` x `img_size`, before it is normalised.
    ///
    /// A picture without pixels, which [`decode`](super::decode) never gives, becomes black.
    pub fn crop(&self, picture: &RgbImage) -> RgbImage {
        let rgb = self.crop_bytes(picture);
        RgbImage::from_raw(self.size, self.size, rgb)
            .unwrap_or_else(|| RgbImage::new(self.size, self.size))
    }

    /// The model's input: shape `[3, img_size, img_size]` (red, green, blue; then rows), row-major.
    ///
    /// A picture without pixels counts as black.
    pub fn tensor(&self, picture: &RgbImage) -> Vec<f32> {
        planes(&self.crop_bytes(picture))
    }

    /// The model's input, as [`tensor`](Self::tensor) gives it, from the packed rows of a browser's
    /// `ImageData`: four bytes a pixel, red, green, blue and an alpha that is ignored.
    ///
    /// The rows are read in place, no copy of the picture is made. A browser's own decoder, which may
    /// have filled them, turns a photograph by its EXIF orientation; [`decode`](super::decode) and the
    /// reference don't.
    ///
    /// # Errors
    /// Kind `Image` if the picture has no pixels; kind `Option` if `rgba` isn't `4 * width * height`
    /// bytes long or a side passes 32 bits.
    pub fn tensor_rgba(&self, rgba: &[u8], width: usize, height: usize) -> Result<Vec<f32>> {
        let size = width
            .checked_mul(height)
            .and_then(|pixels| pixels.checked_mul(4));
        if size != Some(rgba.len()) {
            return Err(Error::option(format!(
                "{} bytes are not {width} x {height} pixels of 4 bytes: pass the data, width and height \
                 of one ImageData",
                rgba.len()
            )));
        }
        let (Ok(width), Ok(height)) = (u32::try_from(width), u32::try_from(height)) else {
            return Err(Error::option(format!(
                "a picture of {width} x {height} pixels is too long: a side is at most {}",
                u32::MAX
            )));
        };
        let geometry = Geometry::new(width, height, self.size)?;
        let pixels = Pixels {
            bytes: rgba,
            width,
            height,
            channels: 4,
        };
        Ok(planes(&resized_crop(pixels, &geometry)))
    }

    fn crop_bytes(&self, picture: &RgbImage) -> Vec<u8> {
        let (width, height) = picture.dimensions();
        match Geometry::new(width, height, self.size) {
            Ok(geometry) => {
                let pixels = Pixels {
                    bytes: picture.as_raw(),
                    width,
                    height,
                    channels: 3,
                };
                resized_crop(pixels, &geometry)
            }
            Err(_) => vec![0; self.img_size() * self.img_size() * 3],
        }
    }
}
