//! `aim-bench run`: tensor in, logits and features out.

use aim_web::Result;
use serde_json::json;

use crate::args::Run;
use crate::data::path_text;
use crate::output::{self, say};
use crate::tensors::{self, TensorFile};
use crate::{engine, model};

pub fn run(args: &Run) -> Result<()> {
    output::reserve(&[("--output", Some(&args.output))], args.json)?;
    let input = TensorFile::open(&args.input)?.f32("input")?;
    let model = model::open(&args.model)?;
    let blocks = model.config.blocks_to_run();
    let (engine, device) = engine::load(model, blocks, &args.model)?;

    let layers: Vec<usize> = if args.features {
        (0..engine.blocks()).collect()
    } else {
        Vec::new()
    };
    let output = engine::run(&*engine, &device, input, &layers)?;

    let mut tensors = vec![("logits".to_owned(), output.logits)];
    for (layer, feature) in layers.iter().zip(output.features) {
        tensors.push((format!("features.{layer}"), feature));
    }
    tensors::write(&args.output, &tensors)?;

    if args.json {
        let written: Vec<_> = tensors
            .iter()
            .map(|(name, tensor)| json!({ "name": name, "shape": tensor.shape }))
            .collect();
        output::print_json(&json!({
            "output": path_text(&args.output),
            "device": device.name(),
            "dtype": engine.precision().name(),
            "tensors": written,
        }))?;
    } else {
        say!(
            "{} ({}, {})",
            args.output.display(),
            device.name(),
            engine.precision()
        )?;
        for (name, tensor) in &tensors {
            say!("  {name} {:?}", tensor.shape)?;
        }
    }
    Ok(())
}
