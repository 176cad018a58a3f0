//! Errors and events as JavaScript objects.

use js_sys::{Object, Reflect};
use wasm_bindgen::{JsCast as _, JsValue};

use crate::error::Error;
use crate::weights::remote::Event;

/// An `Error` whose `name` is `AimError`, with a `code`.
pub(super) fn to_js(error: &Error) -> JsValue {
    let object = js_sys::Error::new(&error.to_string());
    object.set_name("AimError");
    set(object.unchecked_ref(), "code", error.kind().code());
    object.into()
}

/// An event of the package's progress callback.
pub(super) fn event_to_js(model: &str, event: &Event) -> JsValue {
    let object = Object::new();
    set(&object, "status", event.status.name());
    set(&object, "name", model);
    if let Some(file) = &event.file {
        set(&object, "file", file.as_str());
    }
    if event.total > 0 {
        // Counts of bytes are far below 2^53.
        set(&object, "loaded", event.loaded as f64);
        set(&object, "total", event.total as f64);
        let percent = 100.0 * event.loaded as f64 / event.total as f64;
        set(&object, "progress", percent.min(100.0));
    }
    object.into()
}

/// Sets a property of a plain object, which can't fail.
pub(super) fn set(object: &Object, key: &str, value: impl Into<JsValue>) {
    let _ = Reflect::set(object, &key.into(), &value.into());
}
