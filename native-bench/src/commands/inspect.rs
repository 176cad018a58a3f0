//! `aim-bench inspect`: what a checkpoint holds, from its headers.

use std::path::Path;

use aim_web::config::{Config, Family, ProbeLayers};
use aim_web::probe::HeadFile;
use aim_web::probe::file;
use aim_web::weights::checkpoint::Checkpoint;
use aim_web::weights::checkpoint::tensor_info::TensorInfo;
use aim_web::weights::inventory::{Located, Part};
use aim_web::weights::layout::Role;
use aim_web::weights::remote::model::RemoteFront;
use aim_web::weights::remote::{RemoteModel, Transport, plan};
use aim_web::weights::{self, LocalModel, layout};
use aim_web::{Error, ErrorKind, Result, printable};
use pollster::block_on;
use serde::Serialize;

use crate::args::Inspect;
use crate::model::{Named, Place, Source};
use crate::output::{self, say};
use crate::{model, remote};

#[derive(Serialize)]
struct Report {
    files: Vec<String>,
    /// The released model it is, if it is one.
    model: Option<&'static str>,
    /// What a head is that was trained alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<Head>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<serde_json::Value>,
    tensors: Vec<Entry>,
    parameters: u64,
    bytes: u64,
    /// What the files on a server have, headers and all.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_bytes: Option<u64>,
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
struct Head {
    /// How it was trained.
    kind: &'static str,
    classes: Vec<String>,
    /// What lies below it.
    trunk: Trunk,
    /// The width of what it reads, of which blocks, and of what pictures.
    embed_dim: usize,
    probe_layers: Vec<usize>,
    img_size: [usize; 2],
}

#[derive(Serialize)]
struct Trunk {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    arch: Option<String>,
    sha256: String,
}

impl From<&HeadFile> for Head {
    fn from(file: &HeadFile) -> Self {
        Self {
            kind: file.head.kind.name(),
            classes: file.labels.names().to_vec(),
            trunk: Trunk {
                name: file.trunk.name.clone(),
                arch: file.trunk.arch.clone(),
                sha256: file.trunk.sha256.clone(),
            },
            embed_dim: file.config.embed_dim,
            probe_layers: file.config.probe_layers.clone(),
            img_size: file.config.img_size,
        }
    }
}

#[derive(Serialize)]
struct Best {
    probe_layers: Vec<usize>,
    blocks: usize,
    bytes: u64,
    /// What of files on a server is fetched for it, in whole chunks.
    #[serde(skip_serializing_if = "Option::is_none")]
    download_bytes: Option<u64>,
}

pub fn run(args: &Inspect) -> Result<()> {
    let source = &args.model.source;
    let is_alone = source.config.is_none()
        && source.arch.is_none()
        && source.trunk.is_none()
        && args.model.settings.probe_layers.is_none();
    let report = match &args.path {
        Some(path) if is_alone && Path::new(path).is_file() => inspect_file(path)?,
        Some(path) if is_alone => match inspect_named(args, true) {
            // It may be a file of another model than the config beside it, or one without.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Format) => {
                alone(&FrontOnly(remote::front(path).ok_or(error)??))
            }
            report => report?,
        },
        _ => inspect_named(args, is_alone)?,
    };
    if args.json {
        return output::print_json(&report);
    }
    print(&report)
}

/// A model by its name. Nothing is asked of the trunk below a head, unless options say where it is.
fn inspect_named(args: &Inspect, is_alone: bool) -> Result<Report> {
    let mut options = args.model.clone();
    let source = &mut options.source;
    source.model = args.path.clone().or(source.model.take());
    let name = source.model.clone().filter(|_| is_alone);
    let model = match name.map(|name| model::find(&name, &options)).transpose()? {
        Some(Named::Head { head, place }) => return inspect_head(&head, place),
        Some(Named::Whole(model)) => *model,
        None => model::open(&options)?,
    };
    let head = model.head.as_ref().map(Head::from);
    let report = match model.source {
        Source::Local(mut local) => {
            local.config = model.config;
            inspect_model(&local)
        }
        Source::Remote(remote) => inspect_remote(&remote, model.config),
    };
    Ok(Report { head, ..report? })
}

/// A head that was trained alone.
fn inspect_head(head: &HeadFile, place: Place) -> Result<Report> {
    let mut report = match place {
        Place::Local(path) => report(&[weights::open(&path)?.as_ref()]),
        Place::Remote(remote) => {
            let fronts = block_on(remote.fronts())?;
            let bytes = fronts.iter().map(|file| file.len).sum();
            let files: Vec<FrontOnly> = fronts.into_iter().map(FrontOnly).collect();
            let files: Vec<&dyn Checkpoint> = files.iter().map(|file| file as _).collect();
            Report {
                file_bytes: Some(bytes),
                ..report(&files)
            }
        }
    };
    report.config = serde_json::from_str(&head.config.to_json()).ok();
    report.head = Some(head.into());
    Ok(report)
}

/// A model on a server, of which only the headers are read.
fn inspect_remote<T: Transport>(remote: &RemoteModel<T>, config: Config) -> Result<Report> {
    let fronts = block_on(remote.fronts())?;
    let files = fronts
        .iter()
        .map(|file| Box::new(FrontOnly(file.clone())) as Box<dyn Checkpoint>)
        .collect();
    let model = LocalModel::new(files, config, Some(remote.labels.clone()));
    let mut report = inspect_model(&model)?;
    report.file_bytes = Some(fronts.iter().map(|file| file.len).sum());
    if let Some(best) = &mut report.best {
        let mut download = 0;
        for (file, located) in fronts.iter().zip(model.locate()?) {
            let needed: Vec<_> = located
                .iter()
                .filter(|tensor| tensor.spec.is_needed(best.blocks))
                .filter_map(|tensor| file.contents.range(tensor.index))
                .collect();
            download += plan::download(&needed, file.contents.front(), file.len);
        }
        best.download_bytes = Some(download);
    }
    Ok(report)
}

/// What a file holds whose data stay on their server.
struct FrontOnly(RemoteFront);

impl Checkpoint for FrontOnly {
    fn tensors(&self) -> &[TensorInfo] {
        self.0.contents.tensors()
    }

    fn name(&self) -> &str {
        &self.0.url
    }

    fn read(&mut self, _: usize, _: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("{}: only what it holds was read", self.0.url),
        ))
    }
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
    report.parameters = located.iter().flatten().map(parameters).sum();
    report.model = Family::of(&config).map(Family::name);
    report.config = serde_json::from_str(&model.config.to_json()).ok();
    report.best = Some(Best {
        probe_layers: config.probe_layers,
        blocks,
        bytes,
        download_bytes: None,
    });
    Ok(report)
}

/// How many parameters of the model a tensor holds: those of a quantised matrix are in its codes.
fn parameters(tensor: &Located) -> u64 {
    let is_float = matches!(tensor.spec.role, Role::Linear | Role::Patches | Role::Float);
    match tensor.part {
        Part::Whole | Part::Codes(_) if is_float => {
            tensor.spec.shape.iter().map(|&side| side as u64).product()
        }
        _ => 0,
    }
}

/// A lone checkpoint file: a whole model, a backbone or a probe.
fn inspect_file(path: &str) -> Result<Report> {
    let path = Path::new(path);
    if let Some(head) = file::open(path)? {
        return inspect_head(&head, Place::Local(path.to_owned()));
    }
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
    Ok(alone(file.as_ref()))
}

/// A file of which nothing is known but its tensors.
fn alone(file: &dyn Checkpoint) -> Report {
    let mut report = report(&[file]);
    if let Some(family) = recognise(file) {
        report.model = Some(family.name());
        report.best = Some(best_of(&family.config(), file));
    }
    report
}

/// The released model whose width and depth the tensors have.
fn recognise(file: &dyn Checkpoint) -> Option<Family> {
    let shape = |name: &str| {
        let tensors = file.tensors();
        tensors
            .iter()
            .find(|info| layout::unwrapped(&info.name) == name)
            .map(|info| &info.shape)
    };
    let blocks = file
        .tensors()
        .iter()
        .filter(|info| {
            let name = layout::unwrapped(&info.name);
            name.starts_with("trunk.blocks.") && name.ends_with(".attn.qkv.weight")
        })
        .count();
    let shape = shape("trunk.blocks.0.attn.proj.weight").or_else(|| shape("head.k.weight"))?;
    // A file may call a single number so.
    let width = *shape.first()?;
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
            .filter(|info| needed.contains(layout::unwrapped(&info.name)))
            .map(TensorInfo::bytes)
            .sum(),
        download_bytes: None,
    }
}

fn report(files: &[&dyn Checkpoint]) -> Report {
    let tensors = || files.iter().flat_map(|file| file.tensors());
    Report {
        files: files.iter().map(|file| file.name().to_owned()).collect(),
        model: None,
        head: None,
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
        file_bytes: None,
        best: None,
    }
}

fn print(report: &Report) -> Result<()> {
    let names: Vec<String> = report.tensors.iter().map(|t| printable(&t.name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max();
    let width = width.unwrap_or_default();
    for (name, Entry { dtype, shape, .. }) in names.iter().zip(&report.tensors) {
        say!("{name:<width$}  {dtype:<4} {shape:?}")?;
    }
    say!("")?;
    say!("files       {}", report.files.join(", "))?;
    if let Some(head) = &report.head {
        print_head(head)?;
    }
    // Of a head alone it is the trunk that may be one.
    if report.head.is_none() || report.model.is_some() {
        say!(
            "model       {}",
            report.model.unwrap_or("none of the released ones")
        )?;
    }
    say!("tensors     {}", report.tensors.len())?;
    say!("parameters  {}", report.parameters)?;
    say!("bytes       {}", report.bytes)?;
    if let Some(best) = &report.best {
        let share = |part: u64, all: u64, decimals: usize| {
            let percent = 100.0 * part as f64 / all as f64;
            if all > 0 {
                format!(" ({percent:.decimals$}%)")
            } else {
                String::new()
            }
        };
        say!(
            "best        probe layers {:?}: {} blocks, {} bytes{}",
            best.probe_layers,
            best.blocks,
            best.bytes,
            share(best.bytes, report.bytes, 0)
        )?;
        if let (Some(download), Some(all)) = (best.download_bytes, report.file_bytes) {
            say!(
                "download    {download} of {all} bytes{}",
                share(download, all, 1)
            )?;
        }
    }
    Ok(())
}

fn print_head(head: &Head) -> Result<()> {
    let Head {
        kind,
        classes,
        trunk,
        embed_dim,
        probe_layers,
        img_size: [height, width],
    } = head;
    say!("head        {kind}, of {} classes", classes.len())?;
    let names = classes.iter().map(|name| printable(name));
    say!("classes     {}", output::some(names))?;
    let arch = trunk.arch.iter().map(|arch| format!(" ({arch})"));
    say!(
        "trunk       {}{}, of SHA-256 {}…",
        printable(&trunk.name),
        printable(&arch.collect::<String>()),
        printable(trunk.sha256.get(..12).unwrap_or_default())
    )?;
    say!(
        "reads       layers {probe_layers:?} of {embed_dim} channels, from pictures of {height}x{width}"
    )
}
