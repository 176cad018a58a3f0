//! `aim-bench inspect`: what a checkpoint holds, from its headers.

use std::path::Path;

use aim_web::config::{Config, Family, ProbeLayers};
use aim_web::weights::checkpoint::{Checkpoint, TensorInfo};
use aim_web::weights::{self, LocalModel, layout};
use aim_web::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::args::Inspect;
use crate::{model, output};

#[derive(Serialize)]
struct Report {
    files: Vec<String>,
    /// The released model it is, if it is one.
    model: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<serde_json::Value>,
    tensors: Vec<Entry>,
    parameters: u64,
    bytes: u64,
    /// What a run with the best probe layers reads, where the model is known.
    best: Option<Best>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    dtype: String,
    shape: Vec<usize>,
}

#[derive(Serialize)]
struct Best {
    probe_layers: Vec<usize>,
    blocks: usize,
    bytes: u64,
}

pub fn run(args: &Inspect) -> Result<()> {
    let report = match &args.path {
        Some(path)
            if !Path::new(path).is_dir()
                && args.model.config.is_none()
                && args.model.arch.is_none() =>
        {
            inspect_file(path)?
        }
        path => {
            let mut options = args.model.clone();
            options.model = path.clone().or(options.model);
            inspect_model(&model::open(&options)?)?
        }
    };
    if args.json {
        return output::print_json(&report);
    }
    print(&report);
    Ok(())
}

/// A model whose configuration is known.
fn inspect_model(model: &LocalModel) -> Result<Report> {
    let located = model.locate()?;
    let config = model.config.clone().with_probe_layers(&ProbeLayers::Best)?;
    let files: Vec<&dyn Checkpoint> = model.files().iter().map(AsRef::as_ref).collect();
    let blocks = config.blocks_to_run();
    let bytes = files
        .iter()
        .zip(&located)
        .flat_map(|(file, located)| located.iter().map(move |tensor| (file, tensor)))
        .filter(|(_, tensor)| tensor.spec.is_needed(blocks))
        .map(|(file, tensor)| file.tensors()[tensor.index].bytes())
        .sum();
    let mut report = report(&files);
    report.model = Family::of(&config).map(Family::name);
    report.config = serde_json::from_str(&model.config.to_json()).ok();
    report.best = Some(Best {
        probe_layers: config.probe_layers,
        blocks,
        bytes,
    });
    Ok(report)
}

/// A lone checkpoint file: a whole model, a backbone or a probe.
fn inspect_file(path: &str) -> Result<Report> {
    if path.contains("://") {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("{path}: this version reads models from disk; download it first"),
        ));
    }
    let path = Path::new(path);
    let file = weights::open(path)?;
    let config = path.with_file_name("config.json");
    if config.is_file() {
        // A config of another model may lie beside it; then the tensors speak for themselves.
        if let Ok(model) = LocalModel::from_files(&[path.to_owned()], &config)
            && let Ok(report) = inspect_model(&model)
        {
            return Ok(report);
        }
    }
    let mut report = report(&[file.as_ref()]);
    if let Some(family) = recognise(file.as_ref()) {
        let config = family.config();
        report.model = Some(family.name());
        report.best = Some(best_of(&config, file.as_ref()));
    }
    Ok(report)
}

/// The released model whose width and depth the tensors have.
fn recognise(file: &dyn Checkpoint) -> Option<Family> {
    let shape = |name: &str| {
        let tensors = file.tensors();
        tensors
            .iter()
            .find(|info| info.name == name)
            .map(|info| &info.shape)
    };
    let blocks = file
        .tensors()
        .iter()
        .filter(|info| {
            info.name.starts_with("trunk.blocks.") && info.name.ends_with(".attn.qkv.weight")
        })
        .count();
    let width = shape("trunk.blocks.0.attn.proj.weight").or_else(|| shape("head.k.weight"))?[0];
    let mut fitting = Family::ALL.into_iter().filter(|family| {
        let config = family.config();
        config.embed_dim == width && (blocks == 0 || config.num_blocks == blocks)
    });
    fitting.next()
}

/// What the best probe layers need of a file that may hold only a part of the model.
fn best_of(config: &Config, file: &dyn Checkpoint) -> Best {
    let blocks = config.blocks_to_run();
    let needed: std::collections::HashSet<String> = layout::tensors(config)
        .into_iter()
        .filter(|spec| spec.is_needed(blocks))
        .map(|spec| spec.name)
        .collect();
    Best {
        probe_layers: config.probe_layers.clone(),
        blocks,
        bytes: file
            .tensors()
            .iter()
            .filter(|info| needed.contains(&info.name))
            .map(TensorInfo::bytes)
            .sum(),
    }
}

fn report(files: &[&dyn Checkpoint]) -> Report {
    let tensors = || files.iter().flat_map(|file| file.tensors());
    Report {
        files: files.iter().map(|file| file.name().to_owned()).collect(),
        model: None,
        config: None,
        tensors: tensors()
            .map(|info| Entry {
                name: info.name.clone(),
                dtype: info.dtype.to_string(),
                shape: info.shape.clone(),
            })
            .collect(),
        parameters: tensors()
            .filter(|info| info.dtype.is_float())
            .map(TensorInfo::numel)
            .sum(),
        bytes: tensors().map(TensorInfo::bytes).sum(),
        best: None,
    }
}

fn print(report: &Report) {
    let width = report
        .tensors
        .iter()
        .map(|t| t.name.len())
        .max()
        .unwrap_or_default();
    for Entry { name, dtype, shape } in &report.tensors {
        println!("{name:<width$}  {dtype:<4} {shape:?}");
    }
    println!();
    println!("files       {}", report.files.join(", "));
    println!(
        "model       {}",
        report.model.unwrap_or("none of the released ones")
    );
    println!("tensors     {}", report.tensors.len());
    println!("parameters  {}", report.parameters);
    println!("bytes       {}", report.bytes);
    if let Some(best) = &report.best {
        println!(
            "best        probe layers {:?}: {} blocks, {} bytes ({:.0}%)",
            best.probe_layers,
            best.blocks,
            best.bytes,
            100.0 * best.bytes as f64 / report.bytes.max(1) as f64
        );
    }
}
