//! JPEG files, decoded as natively: a browser's own decoder differs by a level or two, and other runtimes have
//! none. The other formats are exact in every browser, and their decoders would add a quarter to the download.

use js_sys::{Object, Uint8Array};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use super::error::{set, to_js};
use super::promise;
use crate::image;

/// Decodes a JPEG: `{rgb, width, height}`, packed rows of red, green and blue. Orientation and colour profiles
/// are ignored.
///
/// # Errors
/// As [`image::decode_jpeg`].
#[wasm_bindgen(js_name = decodeJpeg)]
pub fn decode_jpeg(bytes: &[u8]) -> Result<JsValue, JsValue> {
    promise::ready()?;
    let picture = image::decode_jpeg(bytes).map_err(|error| to_js(&error))?;
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
