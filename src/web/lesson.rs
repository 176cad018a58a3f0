//! A lesson as JavaScript has it, and its training in pieces that leave the thread free.

use std::time::Duration;

use half::vec::HalfBitsVecExt as _;
use js_sys::{Array, Function, JSON, Object, Reflect, Uint8Array, Uint16Array};
use wasm_bindgen::{JsCast as _, JsValue};
use web_sys::AbortSignal;

use super::error::{set, to_js};
use super::timer;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::probe::training::HeldOut;
use crate::probe::{Examples, HeadFile, Options, Progress, Report, Training, Trunk};

/// A report as JSON. By hand: a serializer would be a kilobyte for each of its fields.
fn json(report: &Report) -> String {
    let list = |entries: Vec<String>| format!("[{}]", entries.join(","));
    let number =
        |value: Option<f64>| value.map_or_else(|| "null".to_owned(), |value| value.to_string());
    let classes = report.per_class.iter().map(|class| {
        format!(
            "{{\"label\":{},\"examples\":{},\"heldOut\":{},\"right\":{},\"accuracy\":{}}}",
            serde_json::to_string(&class.label).unwrap_or_default(),
            class.examples,
            class.held_out,
            class.right,
            number(class.accuracy)
        )
    });
    let curve = report.curve.iter().map(|point| {
        format!(
            "{{\"epoch\":{},\"loss\":{},\"heldOutLoss\":{},\"accuracy\":{}}}",
            point.epoch,
            number(Some(point.loss)),
            number(point.held_out_loss),
            number(point.accuracy)
        )
    });
    let confusion: Vec<_> = report
        .confusion
        .rows()
        .map(|row| format!("{row:?}"))
        .collect();
    format!(
        "{{\"head\":\"{}\",\"examples\":{},\"heldOut\":{},\"accuracy\":{},\"loss\":{},\"perClass\":{},\"confusion\":[{}],\"curve\":{}}}",
        report.head,
        report.examples,
        report.held_out,
        number(report.accuracy),
        number(report.loss),
        list(classes.collect()),
        confusion.join(","),
        list(curve.collect())
    )
}

/// How long the thread is held at a time, in milliseconds.
const PIECE: f64 = 30.0;

/// The options of `Classifier.teach`.
pub(super) struct Lesson {
    classes: Vec<String>,
    /// Of each picture its class, and what the head reads.
    labels: Vec<usize>,
    features: Array,
    options: Options,
    trunk: String,
    arch: Option<String>,
    signal: Option<AbortSignal>,
    on_progress: Option<Function>,
}

impl Lesson {
    /// Reads the properties of an object.
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if one has the wrong type.
    pub(super) fn from_js(object: &JsValue) -> Result<Self> {
        let get = |key: &str| {
            let value = Reflect::get(object, &key.into()).unwrap_or(JsValue::UNDEFINED);
            (!value.is_undefined() && !value.is_null()).then_some(value)
        };
        let wrong = |key: &str| Error::option(format!("the option {key} has the wrong type"));
        let list = |key: &str| {
            let value = get(key).and_then(|value| value.dyn_into::<Array>().ok());
            value.ok_or_else(|| wrong(key))
        };
        let number = |key: &str| match get(key) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| wrong(key)),
        };
        let classes = list("classes")?.into_iter().map(|name| name.as_string());
        let labels = list("labels")?.into_iter().map(|label| label.as_f64());
        let mut options = Options::default();
        if let Some(head) = get("head") {
            options.head = head.as_string().ok_or_else(|| wrong("head"))?.parse()?;
        }
        options.epochs = number("epochs")?.map(|epochs| epochs as usize);
        options.rate = number("rate")?.map(|rate| rate as f32);
        if let Some(seed) = number("seed")? {
            options.seed = seed as u64;
        }
        if let Some(part) = number("heldOut")? {
            options.held_out = HeldOut::Share(part as f32);
        }
        Ok(Self {
            classes: classes
                .collect::<Option<_>>()
                .ok_or_else(|| wrong("classes"))?,
            labels: labels
                .map(|label| {
                    let label = label.filter(|label| label.fract() == 0.0 && *label >= 0.0)?;
                    Some(label as usize)
                })
                .collect::<Option<_>>()
                .ok_or_else(|| wrong("labels"))?,
            features: list("features")?,
            options,
            trunk: get("trunk")
                .and_then(|trunk| trunk.as_string())
                .ok_or_else(|| wrong("trunk"))?,
            arch: get("arch").and_then(|arch| arch.as_string()),
            signal: get("signal").map(wasm_bindgen::JsCast::unchecked_into),
            on_progress: get("onProgress").and_then(|function| function.dyn_into().ok()),
        })
    }

    /// Trains: `{ file, report }`.
    pub(super) async fn train(self, engine: &dyn Engine) -> Result<JsValue, JsValue> {
        let failed = |error: Error| to_js(&error);
        let mut examples = Examples::new(engine.config(), &self.classes).map_err(failed)?;
        for (features, &label) in self.features.iter().zip(&self.labels) {
            let bits = features
                .dyn_into::<Uint16Array>()
                .map_err(|_| failed(Error::option("features must be Uint16Arrays")))?;
            examples
                .push_halves(label, bits.to_vec().reinterpret_into())
                .map_err(failed)?;
        }
        let mut training = Training::new(&examples, self.options.clone()).map_err(failed)?;
        let mut piece = timer::now();
        while let Some(progress) = training.step().map_err(failed)? {
            if progress.epoch.is_some() {
                self.report(&progress);
            }
            if timer::now() - piece < PIECE {
                continue;
            }
            self.report(&progress);
            timer::sleep(Duration::ZERO).await;
            if let Some(signal) = self.signal.as_ref().filter(|signal| signal.aborted()) {
                return Err(signal.reason());
            }
            piece = timer::now();
        }
        let (head, report) = training.finish().map_err(failed)?;
        let trunk = Trunk {
            name: self.trunk,
            arch: self.arch,
            sha256: engine.trunk_sha256().to_owned(),
        };
        let file = HeadFile::new(head, engine.config(), examples.classes(), trunk);
        let result = Object::new();
        let bytes = file.to_bytes().map_err(failed)?;
        set(&result, "file", Uint8Array::from(bytes.as_slice()));
        set(&result, "report", JSON::parse(&json(&report))?);
        Ok(result.into())
    }

    fn report(&self, progress: &Progress) {
        let Some(callback) = &self.on_progress else {
            return;
        };
        let event = Object::new();
        set(&event, "progress", 100.0 * progress.done);
        if let Some(point) = progress.epoch {
            set(&event, "epoch", point.epoch as f64);
            set(&event, "loss", point.loss);
            if let Some(accuracy) = point.accuracy {
                set(&event, "accuracy", accuracy);
            }
        }
        // What a callback throws is its page's affair.
        let _ = callback.call1(&JsValue::UNDEFINED, &event);
    }
}
