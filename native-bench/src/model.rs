//! From the options `--model`, `--backbone`, `--config` and so on to a model's files.

use std::path::{Path, PathBuf};

use aim_web::config::{Config, ProbeLayers};
use aim_web::labels::Labels;
use aim_web::weights::LocalModel;
use aim_web::weights::files::Candidate;
use aim_web::weights::remote::RemoteModel;
use aim_web::weights::remote::http::Http;
use aim_web::{Error, ErrorKind, Result, embedded};

use crate::remote::{self, Found};
use crate::{args, output};

/// A model whose configuration is known; its weights still lie where they are.
pub struct Model {
    pub config: Config,
    pub labels: Labels,
    pub source: Source,
}

/// Where the weights are.
pub enum Source {
    Local(LocalModel),
    Remote(Box<RemoteModel<Http>>),
}

impl From<LocalModel> for Model {
    fn from(model: LocalModel) -> Self {
        Self {
            config: model.config.clone(),
            labels: model.labels.clone(),
            source: Source::Local(model),
        }
    }
}

/// Opens the model that the options name and reads its configuration.
pub fn open(args: &args::Model) -> Result<Model> {
    let source = &args.source;
    let mut model = match (&source.model, &source.backbone, &source.head) {
        (Some(model), _, _) => open_named(model, args)?,
        (None, Some(backbone), Some(head)) => {
            open_files(&[backbone.clone(), head.clone()], args)?.into()
        }
        _ => embedded::open()?.into(),
    };
    if let Some(layers) = probe_layers(args) {
        model.config = model.config.with_probe_layers(&layers)?;
    }
    Ok(model)
}

/// What the options call the model.
pub fn name(args: &args::Model) -> String {
    match (&args.source.model, &args.source.backbone) {
        (Some(model), _) => model.clone(),
        (None, Some(backbone)) => backbone.display().to_string(),
        (None, None) => "embedded".to_owned(),
    }
}

/// A model on this machine, or else on a server.
fn open_named(model: &str, args: &args::Model) -> Result<Model> {
    let path = Path::new(model);
    if path.exists() {
        return open_path(path, args).map(Model::from);
    }
    match remote::open(model, args) {
        None => Err(Error::new(
            ErrorKind::NotFound,
            format!("{model}: no such file or directory"),
        )),
        Some(Ok(Found::Snapshot { dir, repository })) => {
            open_dir(&dir, &repository, args).map(Model::from)
        }
        Some(Ok(Found::Model(remote))) => Ok(Model {
            config: remote.config.clone(),
            labels: remote.labels.clone(),
            source: Source::Remote(remote),
        }),
        Some(Err(error)) => Err(error),
    }
}

/// Opens a directory or a checkpoint file.
pub fn open_path(path: &Path, args: &args::Model) -> Result<LocalModel> {
    if path.is_dir() {
        return open_dir(path, "", args);
    }
    open_files(&[path.to_owned()], args)
}

/// A directory of a model, or of the files that Apple published.
fn open_dir(dir: &Path, repository: &str, args: &args::Model) -> Result<LocalModel> {
    let is_model = dir.join("config.json").is_file();
    if !is_model
        && let Some((model, warning)) =
            LocalModel::from_apple(dir, args.source.arch, args.probe_layers.as_ref())?
    {
        if let Some(warning) = warning {
            output::warn(&warning);
        }
        return Ok(model);
    }
    match (is_model, args.source.arch) {
        // Checkpoints alone, whose configuration is that of the name.
        (false, Some(_)) => {
            let there = Candidate::ALL
                .into_iter()
                .find_map(|candidate| match candidate {
                    Candidate::Checkpoint(name) => {
                        Some(dir.join(name)).filter(|path| path.is_file())
                    }
                    Candidate::Index(_) => None,
                });
            match there {
                Some(path) => open_files(&[path], args),
                None => LocalModel::from_snapshot(dir, repository),
            }
        }
        _ => LocalModel::from_snapshot(dir, repository),
    }
}

fn open_files(checkpoints: &[PathBuf], args: &args::Model) -> Result<LocalModel> {
    if let Some(family) = args.source.arch {
        return LocalModel::with_config(checkpoints, family.config(), None);
    }
    let config = match &args.source.config {
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
        let head = args.source.head.as_ref()?.file_name()?.to_str()?;
        if head.contains("head_last_layers") {
            Some(ProbeLayers::Last)
        } else if head.contains("head_best_layers") {
            Some(ProbeLayers::Best)
        } else {
            None
        }
    })
}
