//! From the options `--model`, `--backbone`, `--config` and so on to a model's files.

use std::path::{Path, PathBuf};

use aim_web::config::{Config, Family, ProbeLayers};
use aim_web::labels::Labels;
use aim_web::probe::file::{self, HEAD_FILE};
use aim_web::probe::{HeadFile, Trunk};
use aim_web::weights::LocalModel;
use aim_web::weights::files::Candidate;
use aim_web::weights::local::read_text;
use aim_web::weights::remote::RemoteModel;
use aim_web::weights::remote::http::Http;
use aim_web::{Error, ErrorKind, Result, embedded};
use pollster::block_on;

use crate::files::is_there;
use crate::remote::{self, Found};
use crate::{args, output};

/// A model whose configuration is known; its weights still lie where they are.
pub struct Model {
    pub config: Config,
    pub labels: Labels,
    pub source: Source,
    /// A head that was trained alone, in place of the model's own.
    pub head: Option<HeadFile>,
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
            head: None,
        }
    }
}

/// Opens the model that the options name and reads its configuration.
pub fn open(args: &args::Model) -> Result<Model> {
    let source = &args.source;
    let mut model = match (&source.model, &source.backbone, &source.head) {
        (Some(model), _, _) => open_named(model, args, false)?,
        (None, Some(backbone), Some(head)) => {
            open_files(&[backbone.clone(), head.clone()], args)?.into()
        }
        _ => {
            check_unnamed(source, true)?;
            embedded::open()?.into()
        }
    };
    // Those of a head are the ones it was trained on.
    if model.head.is_none()
        && let Some(layers) = probe_layers(args)
    {
        model.config = model.config.with_probe_layers(&layers)?;
    }
    Ok(model)
}

/// Refuses options that say something of a model where none is named; `--arch` only if it says nothing either.
pub fn check_unnamed(source: &args::Source, with_arch: bool) -> Result<()> {
    let needs = "is for a model that --model or --backbone names: name one, or leave it out";
    refuse(
        &[
            ("--config", source.config.is_some()),
            ("--arch", with_arch && source.arch.is_some()),
            ("--trunk", source.trunk.is_some()),
        ],
        needs,
    )
}

/// Refuses the first option that is given, for a reason.
fn refuse(options: &[(&str, bool)], reason: &str) -> Result<()> {
    match options.iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((option, _)) => Err(Error::new(ErrorKind::Option, format!("{option} {reason}"))),
    }
}

/// What the options call the model.
pub fn name(args: &args::Model) -> String {
    match (&args.source.model, &args.source.backbone) {
        (Some(model), _) => model.clone(),
        (None, Some(backbone)) => backbone.display().to_string(),
        (None, None) => file::EMBEDDED.to_owned(),
    }
}

/// What a name leads to.
pub enum Named {
    Whole(Box<Model>),
    /// A head that was trained alone, without what lies below it.
    Head {
        head: Box<HeadFile>,
        place: Place,
    },
}

/// Where a head's file is.
pub enum Place {
    Local(PathBuf),
    Remote(Box<RemoteModel<Http>>),
}

/// A model on this machine, or else on a server. A head alone is put on its trunk, unless it is asked for as a trunk
/// itself: heads may name each other.
fn open_named(model: &str, args: &args::Model, is_trunk: bool) -> Result<Model> {
    match find(model, args)? {
        Named::Head { .. } if is_trunk => Err(Error::new(
            ErrorKind::Format,
            format!("{model}: is a head alone, and no trunk"),
        )),
        Named::Head { head, .. } => on_trunk(*head, args),
        Named::Whole(_) if args.source.trunk.is_some() && !is_trunk => Err(Error::new(
            ErrorKind::Option,
            "--trunk is for a head alone, and the model has its own trunk: leave it out",
        )),
        Named::Whole(model) => Ok(*model),
    }
}

/// Looks for a name on this machine, or else on a server.
pub fn find(model: &str, args: &args::Model) -> Result<Named> {
    let whole = |model: Model| Named::Whole(Box::new(model));
    let path = Path::new(model);
    if !model.contains("://") && is_there(path)? {
        return Ok(match head_at(path)? {
            Some((head, file)) => Named::Head {
                head: Box::new(head),
                place: Place::Local(file),
            },
            None => whole(open_path(path, args)?.into()),
        });
    }
    match remote::open(model, args) {
        None => {
            let home = if model.starts_with('~') {
                ", and the shell puts no folder in place of this ~: write it out"
            } else {
                ""
            };
            Err(Error::new(
                ErrorKind::NotFound,
                format!("{model}: no such file or directory{home}"),
            ))
        }
        Some(Ok(Found::Snapshot { dir, repository })) => {
            Ok(whole(open_dir(&dir, &repository, args)?.into()))
        }
        Some(Ok(Found::Model(remote))) => Ok(match block_on(remote.head_alone())? {
            Some(head) => Named::Head {
                head: Box::new(head),
                place: Place::Remote(remote),
            },
            None => whole(Model {
                config: remote.config.clone(),
                labels: remote.labels.clone(),
                source: Source::Remote(remote),
                head: None,
            }),
        }),
        // It may have been meant as a path.
        Some(Err(error))
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Network)
                && !model.contains("://") =>
        {
            Err(error.at(format_args!(
                "{model}: is no file or folder here, and as a repository"
            )))
        }
        Some(Err(error)) => Err(error),
    }
}

/// The head that was trained alone, if that is what a file or a directory holds, and its file.
fn head_at(path: &Path) -> Result<Option<(HeadFile, PathBuf)>> {
    if !path.is_dir() {
        let head = file::open(path)?;
        return Ok(head.map(|head| (head, path.to_owned())));
    }
    let config = path.join("config.json");
    if !is_there(&config)? {
        return Ok(None);
    }
    let place = |error: Error| error.at(config.display());
    if Trunk::of_config(&read_text(&config)?)
        .map_err(place)?
        .is_none()
    {
        return Ok(None);
    }
    let file = path.join(HEAD_FILE);
    match file::open(&file)? {
        Some(head) => Ok(Some((head, file))),
        None => Err(Error::new(
            ErrorKind::Format,
            format!("{}: holds no head that was trained", file.display()),
        )),
    }
}

/// A head on the trunk that it names, or that is named in its place.
fn on_trunk(head: HeadFile, args: &args::Model) -> Result<Model> {
    let name = args.source.trunk.as_ref().unwrap_or(&head.trunk.name);
    let beneath = |error: Error| error.at("the trunk below the head");
    let arch = match &args.source {
        // It says more than a name does.
        source if source.config.is_some() => source.arch,
        source => source.arch.or(head.trunk.family().map_err(beneath)?),
    };
    let arguments = args::Model {
        source: args::Source {
            model: Some(name.clone()),
            arch,
            trunk: None,
            ..args.source.clone()
        },
        settings: args::Settings {
            probe_layers: None,
            ..args.settings.clone()
        },
    };
    let trunk = if name == file::EMBEDDED {
        let source = &args.source;
        let options = [
            ("--config", source.config.is_some()),
            ("--arch", source.arch.is_some()),
        ];
        refuse(
            &options,
            "is for a trunk in files, and this head's is the embedded model: leave it out",
        )?;
        embedded::open()?.into()
    } else {
        open_named(name, &arguments, true).map_err(beneath)?
    };
    Ok(Model {
        config: head.config_of_trunk(trunk.config, args.settings.probe_layers.as_ref())?,
        labels: head.labels.clone(),
        source: trunk.source,
        head: Some(head),
    })
}

/// What the trunk of a model that the options name is called in a head's file.
pub fn trunk_name(model: &Model, args: &args::Model) -> Result<String> {
    let source = &args.source;
    let model = match (&model.head, &source.trunk, &source.model) {
        // A head that was trained before has a trunk already.
        (Some(head), None, _) => return Ok(head.trunk.name.clone()),
        (Some(_), Some(trunk), _) if trunk != file::EMBEDDED => trunk,
        (None, _, Some(model)) => model,
        _ => return Ok(file::EMBEDDED.to_owned()),
    };
    let path = Path::new(model);
    if !path.exists() {
        return Ok(match model.parse::<Family>() {
            Ok(family) => format!("apple/{family}"),
            Err(_) => model.clone(),
        });
    }
    let path = std::path::absolute(path)
        .map_err(|error| Error::new(ErrorKind::NotFound, format!("{model}: {error}")))?;
    Ok(path.to_string_lossy().into_owned())
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
    let own = dir.join("config.json");
    let config = args.source.config.as_ref();
    let config = config.or_else(|| own.is_file().then_some(&own));
    let is_there = |candidate: &Candidate| dir.join(candidate.name()).is_file();
    if let Some(config) = config
        && Candidate::ALL.iter().any(is_there)
    {
        let model = LocalModel::from_snapshot(dir, config, repository)?;
        return match args.source.arch {
            Some(family) if Family::of(&model.config) != Some(family) => Err(Error::new(
                ErrorKind::Option,
                format!(
                    "{}: says that its model is no {family}: leave --arch out, or name another model",
                    config.display()
                ),
            )),
            _ => Ok(model),
        };
    }
    let layers = args.settings.probe_layers.as_ref();
    if let Some((model, warning)) = LocalModel::from_apple(dir, args.source.arch, layers)? {
        if args.source.config.is_some() {
            return Err(Error::new(
                ErrorKind::Option,
                format!(
                    "{}: holds files that Apple published, whose configuration is known: leave --config out",
                    dir.display()
                ),
            ));
        }
        if let Some(warning) = warning {
            output::warn(&warning);
        }
        return Ok(model);
    }
    let is_checkpoint = |candidate: &Candidate| matches!(candidate, Candidate::Checkpoint(_));
    let mut checkpoints = Candidate::ALL.into_iter().filter(is_checkpoint);
    if args.source.arch.is_some()
        && config.is_none()
        && let Some(checkpoint) = checkpoints.find(is_there)
    {
        return open_files(&[dir.join(checkpoint.name())], args);
    }
    LocalModel::from_snapshot(dir, config.unwrap_or(&own), repository)
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
    args.settings.probe_layers.clone().or_else(|| {
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
