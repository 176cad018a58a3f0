//! JavaScript's options of a load.

use std::time::Duration;

use js_sys::{Function, Reflect};
use wasm_bindgen::{JsCast as _, JsValue};
use web_sys::AbortSignal;

use crate::config::{Family, ProbeLayers};
use crate::error::{Error, Result};
use crate::precision::Precision;
use crate::weights::remote::stall::Timeouts;

/// The options of `Classifier.load`.
pub(super) struct Options {
    pub(super) model: String,
    pub(super) revision: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) token: Option<String>,
    pub(super) dtype: Precision,
    pub(super) probe_layers: Option<ProbeLayers>,
    /// The released model whose files lie at `model`.
    pub(super) arch: Option<Family>,
    pub(super) warmup: bool,
    /// Whether chunks are kept in the browser's cache.
    pub(super) cache: bool,
    /// Only the WebGPU build reads it.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))]
    pub(super) allow_software: bool,
    pub(super) signal: Option<AbortSignal>,
    pub(super) on_progress: Option<Function>,
    pub(super) fetch: Option<Function>,
    /// The file of a head that was taught on the model.
    pub(super) head: Option<Vec<u8>>,
    /// What a model that is a head alone stands on, in place of the trunk that it names.
    pub(super) trunk: Option<String>,
    /// Where the model of the package is fetched from.
    pub(super) embedded: Option<String>,
    pub(super) timeouts: Timeouts,
}

impl Options {
    /// Reads the options of an object.
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if one has the wrong type.
    pub(super) fn from_js(object: &JsValue) -> Result<Self> {
        let get = |key: &str| {
            let value = Reflect::get(object, &key.into()).unwrap_or(JsValue::UNDEFINED);
            (!value.is_undefined() && !value.is_null()).then_some(value)
        };
        let text = |key: &str| match get(key) {
            None => Ok(None),
            Some(value) => value
                .as_string()
                .map(Some)
                .ok_or_else(|| Error::option(format!("the option {key} must be a string"))),
        };
        let function = |key: &str| match get(key) {
            None => Ok(None),
            Some(value) => value
                .dyn_into::<Function>()
                .map(Some)
                .map_err(|_| Error::option(format!("the option {key} must be a function"))),
        };
        let seconds = |key: &str, otherwise: Duration| match get(key) {
            None => Ok(otherwise),
            Some(value) => value
                .as_f64()
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .ok_or_else(|| Error::option(format!("the option {key} must be in seconds"))),
        };
        let timeouts = Timeouts::default();
        Ok(Self {
            model: text("model")?.ok_or_else(|| Error::option("the option model is missing"))?,
            revision: text("revision")?,
            endpoint: text("endpoint")?,
            token: text("token")?,
            dtype: text("dtype")?
                .map(|dtype| dtype.parse())
                .transpose()?
                .unwrap_or_default(),
            probe_layers: get("probeLayers")
                .map(|value| probe_layers(&value))
                .transpose()?,
            arch: text("arch")?.map(|arch| arch.parse()).transpose()?,
            cache: get("cache").is_none_or(|value| value.is_truthy()),
            warmup: get("warmup").is_none_or(|value| value.is_truthy()),
            allow_software: get("allowSoftware").is_some_and(|value| value.is_truthy()),
            signal: get("signal").map(wasm_bindgen::JsCast::unchecked_into),
            on_progress: function("onProgress")?,
            fetch: function("fetch")?,
            head: get("head").map(|bytes| js_sys::Uint8Array::new(&bytes).to_vec()),
            trunk: text("trunk")?,
            embedded: text("embedded")?,
            timeouts: Timeouts {
                stall: seconds("stall", timeouts.stall)?,
                longest_wait: seconds("longestWait", timeouts.longest_wait)?,
            },
        })
    }
}

fn probe_layers(value: &JsValue) -> Result<ProbeLayers> {
    if let Some(text) = value.as_string() {
        return text.parse();
    }
    let wrong = || {
        Error::option("the option probeLayers must be 'best', 'last' or a list of block numbers")
    };
    let list = value.dyn_ref::<js_sys::Array>().ok_or_else(wrong)?;
    list.iter()
        .map(|layer| {
            let layer = layer.as_f64().ok_or_else(wrong)?;
            if layer.fract() != 0.0 || !(0.0..65536.0).contains(&layer) {
                return Err(wrong());
            }
            Ok(layer as usize)
        })
        .collect::<Result<_>>()
        .map(ProbeLayers::List)
}
