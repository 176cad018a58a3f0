//! From the bytes of a picture to the tensor that the model reads.
//!
//! ```text
//! bytes → decode → RgbImage → resize and crop (u8) → normalise → [3, size, size] f32
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `decode.rs` | bytes to 8-bit RGB, as Pillow's `convert("RGB")` gives it |
//! | `jpeg`, `png.rs`, `webp.rs`, `gif.rs`, `bmp.rs`, `tiff.rs` | what these formats need besides |
//! | `upright.rs` | EXIF orientation, for those who heed it |
//! | `pixels.rs` | what those share: limits, and pixels of any layout to RGB |
//! | `geometry.rs` | torchvision's rounding of the resized size and of the crop's place |
//! | `resize.rs` | Pillow's bicubic convolution, for the pixels of the crop alone |
//! | `normalize.rs` | mean and standard deviation of `ImageNet`, pixels to planes |
//! | `preprocess.rs` | all of it in one object |
//!
//! The reference is AIM v1's transform for validation: torchvision's `Resize` (bicubic, on a Pillow
//! picture), `CenterCrop`, `ToTensor`, `Normalize`. From the same RGB pixels this module gives the same
//! bytes and the same floats. So do decoded pictures, but for a few kinds: [`decode`](decode()) names them.

mod bmp;
mod decode;
mod geometry;
mod gif;
mod jpeg;
mod normalize;
mod pixels;
mod png;
mod preprocess;
mod resize;
#[cfg(not(target_family = "wasm"))]
mod tiff;
mod upright;
mod webp;

pub use self::decode::decode;
pub use self::geometry::Geometry;
pub use self::jpeg::decode as decode_jpeg;
pub use self::normalize::{MEAN, STD};
pub use self::pixels::MAX_PIXELS;
pub use self::preprocess::Preprocessor;
pub use self::upright::{decode_jpeg_upright, decode_upright, orientation};
/// Rows of 8-bit red, green and blue: the type that [`decode`] gives and [`Preprocessor`] takes.
pub use ::image::RgbImage;
/// How a picture has to be turned, as EXIF numbers it from 1 to 8.
pub use ::image::metadata::Orientation;
