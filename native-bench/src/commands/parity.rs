//! `aim-bench parity`: the model's outputs against those of a reference.

use aim_web::engine::{HostOutput, HostTensor};
use aim_web::precision::Precision;
use aim_web::weights::checkpoint::dtype::Dtype;
use aim_web::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::args::Parity;
use crate::output::{self, say};
use crate::tensors::TensorFile;
use crate::{engine, model};

/// What may be off without a word, by device and precision. In few bits a model differs by what its
/// weights have lost; random weights lose as much as this.
const fn tolerance(precision: Precision, is_gpu: bool) -> f64 {
    match precision {
        Precision::Fp16 => 1e-2,
        Precision::Q8 => 1e-1,
        Precision::Q4 => 1.0,
        Precision::Fp32 | Precision::Auto if is_gpu => 1e-4,
        Precision::Fp32 | Precision::Auto => 1e-5,
    }
}

/// How far one output is off.
#[derive(Serialize)]
struct Comparison {
    name: String,
    /// `max |ours - reference| / max |reference|`
    error: f64,
    within_tolerance: bool,
}

/// What the reference holds of one output.
enum Reference {
    Whole(HostTensor),
    /// Some elements by their flat index, and the largest absolute value of the whole.
    Samples {
        indices: Vec<usize>,
        values: Vec<f32>,
        largest: f64,
    },
}

pub fn run(args: &Parity) -> Result<()> {
    let mut reference = TensorFile::open(&args.reference)?;
    let layers = feature_layers(&reference);
    let has_logits = holds(&reference, "logits");
    if layers.is_empty() && !has_logits {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "{}: holds neither `logits` nor `features.0` and so on, so there is nothing to compare",
                args.reference.display()
            ),
        ));
    }
    let input = match &args.input {
        Some(path) => TensorFile::open(path)?.f32("input")?,
        None => reference.f32("input").map_err(|error| {
            Error::new(
                error.kind(),
                format!("{error}; name the input with --input"),
            )
        })?,
    };

    let model = model::open(&args.model)?;
    let blocks = layers
        .iter()
        .map(|layer| layer.saturating_add(1))
        .chain([model.config.blocks_to_run()])
        .max()
        .unwrap_or_default();
    if blocks > model.config.num_blocks {
        return Err(Error::new(
            ErrorKind::Option,
            format!(
                "the reference has features of block {}, but the model has {} blocks",
                blocks - 1,
                model.config.num_blocks
            ),
        ));
    }
    let (engine, device) = engine::load(model, blocks, &args.model)?;
    let default = tolerance(engine.precision(), device.is_gpu());
    let tolerance = args.tolerance.unwrap_or(default);

    let HostOutput { logits, features } = engine::run(&*engine, &device, input, &layers)?;
    let mut outputs = Vec::new();
    if has_logits {
        outputs.push(("logits".to_owned(), logits));
    }
    for (layer, feature) in layers.iter().zip(features) {
        outputs.push((format!("features.{layer}"), feature));
    }
    let comparisons = outputs
        .into_iter()
        .map(|(name, ours)| {
            let error = error(&ours, &read_reference(&mut reference, &name)?)
                .map_err(|error| error.at(&name))?;
            Ok(Comparison {
                name,
                error,
                within_tolerance: error <= tolerance,
            })
        })
        .collect::<Result<Vec<_>>>()?;

    if args.json {
        output::print_json(&comparisons)?;
    } else {
        let dtype = engine.precision();
        say!("{}, {dtype}, tolerance {tolerance:.0e}", device.name())?;
        for Comparison {
            name,
            error,
            within_tolerance,
        } in &comparisons
        {
            let verdict = if *within_tolerance { "ok" } else { "TOO FAR" };
            say!("  {name:<14} {error:.2e}  {verdict}")?;
        }
    }
    let off: Vec<&str> = comparisons
        .iter()
        .filter(|comparison| !comparison.within_tolerance)
        .map(|comparison| comparison.name.as_str())
        .collect();
    if off.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Integrity,
        format!("over the tolerance of {tolerance:e}: {}", off.join(", ")),
    ))
}

/// The blocks whose outputs the reference holds, in order.
fn feature_layers(reference: &TensorFile) -> Vec<usize> {
    let mut layers: Vec<usize> = reference
        .names()
        .filter_map(|name| name.strip_prefix("features."))
        .filter_map(|rest| rest.strip_suffix(".val").unwrap_or(rest).parse().ok())
        .collect();
    layers.sort_unstable();
    layers.dedup();
    layers
}

fn holds(reference: &TensorFile, name: &str) -> bool {
    reference.contains(name) || reference.contains(&format!("{name}.val"))
}

fn read_reference(file: &mut TensorFile, name: &str) -> Result<Reference> {
    if file.contains(name) {
        return file.f32(name).map(Reference::Whole);
    }
    let indices = file
        .bytes(&format!("{name}.idx"), Dtype::I32)?
        .chunks_exact(4)
        .map(|bytes| {
            let index = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            usize::try_from(index).map_err(|_| {
                Error::new(
                    ErrorKind::Format,
                    format!("{name}.idx holds the index {index}"),
                )
            })
        })
        .collect::<Result<_>>()?;
    let stats = file.f32(&format!("{name}.stats"))?;
    let largest = stats.values.get(2).copied().ok_or_else(|| {
        Error::new(
            ErrorKind::Format,
            format!("{name}.stats must hold mean, deviation and largest absolute value"),
        )
    })?;
    Ok(Reference::Samples {
        indices,
        values: file.f32(&format!("{name}.val"))?.values,
        largest: f64::from(largest),
    })
}

/// `max |ours - reference| / max |reference|`
fn error(ours: &HostTensor, reference: &Reference) -> Result<f64> {
    let mismatch = |what: String| Error::new(ErrorKind::Format, what);
    let difference = |a: f32, b: f32| (f64::from(a) - f64::from(b)).abs();
    // `f64::max` would drop a NaN; an output that is not a number is as far off as can be.
    let larger = |a: f64, b: f64| if b.is_nan() { f64::INFINITY } else { a.max(b) };
    // Against one of these everything is near, or nothing.
    let are_finite = |values: &[f32], largest: f64| {
        if values.is_empty() {
            return Err(mismatch(
                "the reference holds no value of it, so there is nothing to compare: make it again"
                    .to_owned(),
            ));
        }
        if values.iter().all(|value| value.is_finite()) && largest.is_finite() && largest >= 0.0 {
            return Ok(());
        }
        Err(mismatch(
            "the reference's values or their largest are not finite, or that is negative: make it again".to_owned(),
        ))
    };
    let relative = |off: f64, largest: f64| if off == 0.0 { 0.0 } else { off / largest };
    match reference {
        Reference::Whole(reference) => {
            if ours.shape != reference.shape {
                return Err(mismatch(format!(
                    "shape {:?} in the reference, {:?} here",
                    reference.shape, ours.shape
                )));
            }
            let largest = reference
                .values
                .iter()
                .map(|v| f64::from(v.abs()))
                .fold(0.0, f64::max);
            are_finite(&reference.values, largest)?;
            let off = ours
                .values
                .iter()
                .zip(&reference.values)
                .map(|(&a, &b)| difference(a, b))
                .fold(0.0, larger);
            Ok(relative(off, largest))
        }
        Reference::Samples {
            indices,
            values,
            largest,
        } => {
            if indices.len() != values.len() {
                return Err(mismatch(format!(
                    "{} indices for {} values in the reference",
                    indices.len(),
                    values.len()
                )));
            }
            are_finite(values, *largest)?;
            let mut off = 0.0;
            for (&index, &value) in indices.iter().zip(values) {
                let own = ours.values.get(index).ok_or_else(|| {
                    mismatch(format!(
                        "the reference has element {index}, but there are {}",
                        ours.values.len()
                    ))
                })?;
                off = larger(off, difference(*own, value));
            }
            Ok(relative(off, *largest))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(values: &[f32]) -> HostTensor {
        HostTensor {
            shape: vec![values.len()],
            values: values.to_vec(),
        }
    }

    #[test]
    fn a_reference_of_no_numbers_is_refused() {
        let ours = whole(&[1.0, 2.0]);
        let samples = |value, largest| Reference::Samples {
            indices: vec![1],
            values: vec![value],
            largest,
        };
        assert_eq!(error(&ours, &samples(2.5, 4.0)).unwrap(), 0.125);
        assert_eq!(
            error(&ours, &Reference::Whole(whole(&[1.0, 4.0]))).unwrap(),
            0.5
        );
        let zeros = whole(&[0.0, 0.0]);
        assert_eq!(
            error(&zeros, &Reference::Whole(zeros.clone())).unwrap(),
            0.0
        );
        for reference in [
            samples(2.0, -4.0),
            samples(2.0, f64::INFINITY),
            samples(2.0, f64::NAN),
            samples(f32::NAN, 4.0),
            Reference::Whole(whole(&[1.0, f32::INFINITY])),
            Reference::Whole(whole(&[f32::NAN, 2.0])),
            Reference::Samples {
                indices: Vec::new(),
                values: Vec::new(),
                largest: 4.0,
            },
        ] {
            let error = error(&ours, &reference).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format, "{error}");
        }
        let none = Reference::Whole(whole(&[]));
        assert!(error(&whole(&[]), &none).is_err());
        let broken = whole(&[1.0, f32::NAN]);
        assert_eq!(error(&broken, &samples(2.0, 4.0)).unwrap(), f64::INFINITY);
    }
}
