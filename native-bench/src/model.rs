//! From the options `--model`, `--backbone`, `--config` and so on to a model's files.

use std::path::{Path, PathBuf};

use aim_web::config::ProbeLayers;
use aim_web::weights::LocalModel;
use aim_web::{Error, ErrorKind, Result, embedded};

use crate::args;

/// Opens the model that the options name and reads its headers.
pub fn open(args: &args::Model) -> Result<LocalModel> {
    let mut model = match (&args.model, &args.backbone, &args.head) {
        (Some(model), _, _) => open_path(local(model)?, args)?,
        (None, Some(backbone), Some(head)) => open_files(&[backbone.clone(), head.clone()], args)?,
        _ => embedded::open()?,
    };
    if let Some(layers) = probe_layers(args) {
        model.config = model.config.with_probe_layers(&layers)?;
    }
    Ok(model)
}

/// A model on this machine, or why it is none.
fn local(model: &str) -> Result<&Path> {
    let path = Path::new(model);
    if path.exists() {
        return Ok(path);
    }
    if model.contains("://") || model.parse::<aim_web::config::Family>().is_ok() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "{model}: this version reads models from disk; download it and give its folder"
            ),
        ));
    }
    Err(Error::new(
        ErrorKind::NotFound,
        format!("{model}: no such file or directory"),
    ))
}

/// Opens a directory or a checkpoint file.
pub fn open_path(path: &Path, args: &args::Model) -> Result<LocalModel> {
    if path.is_dir() {
        return LocalModel::from_dir(path);
    }
    open_files(&[path.to_owned()], args)
}

fn open_files(checkpoints: &[PathBuf], args: &args::Model) -> Result<LocalModel> {
    if let Some(family) = args.arch {
        return LocalModel::with_config(checkpoints, family.config(), None);
    }
    let config = match &args.config {
        Some(config) => config.clone(),
        None => {
            let beside = checkpoints[0].with_file_name("config.json");
            if !beside.is_file() {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!(
                        "{}: no config.json lies beside it; name one with --config, or the released model with --arch",
                        checkpoints[0].display()
                    ),
                ));
            }
            beside
        }
    };
    LocalModel::from_files(checkpoints, &config)
}

/// The probe layers asked for. Apple's files name the layers their probe was trained on.
fn probe_layers(args: &args::Model) -> Option<ProbeLayers> {
    args.probe_layers.clone().or_else(|| {
        let head = args.head.as_ref()?.file_name()?.to_str()?;
        if head.contains("head_last_layers") {
            Some(ProbeLayers::Last)
        } else if head.contains("head_best_layers") {
            Some(ProbeLayers::Best)
        } else {
            None
        }
    })
}
