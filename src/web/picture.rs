//! Files of pictures, decoded as natively and turned as browsers turn them.
//!
//! A browser's own decoder of JPEG differs by a level or two, and other runtimes have none, so each build decodes JPEG. The
//! other formats are exact in every browser, and their decoders would add a quarter to the download: they are in a build of
//! their own, for runtimes without a browser.

use js_sys::{Object, Uint8Array};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use super::error::{set, to_js};
use super::promise;
use crate::Result as AimResult;
use crate::image::{self, RgbImage};

/// Decodes a JPEG: `{rgb, width, height}`, packed rows of red, green and blue. It is turned by its EXIF orientation; a
/// colour profile is ignored.
///
/// # Errors
/// [`ErrorKind::Image`](crate::ErrorKind::Image) if it is no JPEG, broken, or larger than what is decoded.
#[cfg(not(feature = "pictures"))]
#[wasm_bindgen(js_name = decodeJpeg)]
pub fn decode_jpeg(bytes: &[u8]) -> Result<JsValue, JsValue> {
    decode(bytes, image::decode_jpeg_upright)
}

/// Decodes a JPEG, PNG, WebP, GIF or BMP: as [`decode_jpeg`].
///
/// # Errors
/// [`ErrorKind::Image`](crate::ErrorKind::Image) if it is of no such format, broken, or larger than what is decoded.
#[cfg(feature = "pictures")]
#[wasm_bindgen(js_name = decodePicture)]
pub fn decode_picture(bytes: &[u8]) -> Result<JsValue, JsValue> {
    decode(bytes, image::decode_upright)
}

fn decode(bytes: &[u8], decoder: fn(&[u8]) -> AimResult<RgbImage>) -> Result<JsValue, JsValue> {
    promise::ready()?;
    let picture = decoder(bytes).map_err(|error| to_js(&error))?;
    let object = Object::new();
    set(
        &object,
        "rgb",
        Uint8Array::from(picture.as_raw().as_slice()),
    );
    set(&object, "width", picture.width());
    set(&object, "height", picture.height());
    Ok(object.into())
}
