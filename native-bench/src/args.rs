//! The command line: what can be asked for.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use aim_web::config::{Family, ProbeLayers};
use aim_web::image::Preprocessor;
use aim_web::precision::Precision;
use aim_web::probe::HeadKind;
use aim_web::probe::training::{HeldOut, Options};
use aim_web::weights::shards::synth::Format;
use clap::{Args as ClapArgs, CommandFactory as _, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::data::Split;
use crate::features::layout::MAX_PARTITIONS;

pub mod bench;

/// Run Apple's AIM vision transformers on this machine.
#[derive(Debug, Parser)]
#[command(name = "aim-bench", version)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// What this process was started with.
    ///
    /// # Errors
    /// Those of clap, of values that contradict each other too; and what was asked to be shown in place of running.
    pub fn of_process() -> Result<Self, clap::Error> {
        let args = Self::try_parse()?;
        let world = match &args.command {
            Command::Eval(eval) => Some(&eval.world),
            Command::Features(features) => Some(&features.world),
            _ => None,
        };
        if let Some(&World {
            rank: Some(rank),
            world_size: Some(size),
            ..
        }) = world
            && rank >= size
        {
            return Err(Self::command().error(
                clap::error::ErrorKind::ValueValidation,
                format!("there is no --rank {rank} of --world-size {size}: ranks count from 0"),
            ));
        }
        Ok(args)
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Name what is on pictures.
    Classify(Classify),
    /// Measure accuracy and loss on labelled pictures.
    Eval(Eval),
    /// Add the counts of several processes of eval.
    Merge(Merge),
    /// Write what the model makes of pictures, before it names them.
    Features(Features),
    /// Run the model on a tensor and write logits, and features if asked.
    Run(Run),
    /// Turn pictures into the tensor a model takes.
    Preprocess(Preprocess),
    /// Say what a checkpoint holds, from its headers alone.
    Inspect(Inspect),
    /// Compare the model's outputs with those of a reference.
    Parity(Parity),
    /// Write a model in floats as shards that a browser streams, in 4 (by default), 8, 16 or 32 bits.
    Convert(Convert),
    /// Teach a model classes of one's own: a new head on its frozen trunk.
    Train(Train),
    /// Write a random checkpoint of a released model's size.
    Synth(Synth),
    /// Measure how fast this machine runs a model: every combination of the devices, dtypes, threads, probe layers and
    /// batches that are named.
    Bench(bench::Bench),
    /// The devices of this machine, and what they can do.
    Devices(Devices),
    /// The models from servers that are kept on this machine.
    Cache(Cache),
    /// A part of `bench`, in a process of its own.
    #[command(hide = true)]
    BenchModel(bench::BenchModel),
    /// Another.
    #[command(hide = true)]
    BenchPeak(bench::BenchPeak),
}

/// Which model, and where it runs.
#[derive(Clone, Debug, ClapArgs)]
pub struct Model {
    #[command(flatten)]
    pub source: Source,

    #[command(flatten)]
    pub settings: Settings,
}

/// How a model runs.
#[derive(Clone, Debug, ClapArgs)]
pub struct Settings {
    /// The blocks whose outputs the head reads the mean of: best, last, or numbers from 0 such as 12,13,14
    /// [default: what the model was published with].
    #[arg(long, value_name = "best|last|LIST")]
    pub probe_layers: Option<ProbeLayers>,

    #[command(flatten)]
    pub target: Target,

    /// How many threads of the CPU to use [default: `RAYON_NUM_THREADS`, else all cores].
    #[arg(long, value_name = "N", value_parser = threads())]
    pub threads: Option<u16>,

    /// The precision of the weights; auto takes what is stored, on a GPU in as few bits as 4 GiB
    /// need.
    #[arg(long, value_enum, default_value_t = Dtype::Auto)]
    pub dtype: Dtype,
}

/// What `--threads` takes.
fn threads() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=1024)
}

/// What an option calls a value.
fn value_name(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Where to run.
#[derive(Clone, Copy, Debug, ClapArgs)]
pub struct Target {
    /// Where to run; auto takes a GPU if there is a real one.
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,

    /// Which GPU, by its number in `aim-bench devices` [default: the most powerful one].
    #[arg(long, value_name = "N")]
    pub adapter: Option<usize>,
}

/// Which model.
#[derive(Clone, Debug, ClapArgs)]
pub struct Source {
    /// A directory with config.json and model.safetensors, `pytorch_model.bin`, model.pth or shards; a
    /// checkpoint file; a repository of the hub such as user/name or user/name@revision; a URL of a
    /// folder or of a checkpoint file; without it, the model inside this program.
    #[arg(long, value_name = "PATH|NAME|URL", conflicts_with_all = ["backbone", "head"])]
    pub model: Option<String>,

    /// Apple's backbone checkpoint; goes with --head.
    #[arg(long, value_name = "FILE", requires = "head")]
    pub backbone: Option<PathBuf>,

    /// Apple's probe checkpoint; goes with --backbone.
    #[arg(long, value_name = "FILE", requires = "backbone")]
    pub head: Option<PathBuf>,

    /// The configuration of the checkpoint files, in place of what lies beside them.
    #[arg(long, value_name = "FILE", conflicts_with = "arch")]
    pub config: Option<PathBuf>,

    /// The released model that checkpoint files hold: aim-600M, aim-1B, aim-3B or aim-7B. Of Apple's files
    /// in a directory or a repository (apple/AIM) it chooses.
    #[arg(long, value_name = "NAME")]
    pub arch: Option<Family>,

    /// What lies below a head that was trained alone, if it is not where the head says: as --model takes it.
    #[arg(long, value_name = "PATH|NAME|URL", conflicts_with = "backbone")]
    pub trunk: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceChoice {
    /// A GPU if there is a real one, else the processor.
    Auto,
    /// A GPU, a software one if there is no other, by the fastest way of this build but CUDA.
    Gpu,
    /// The processor.
    Cpu,
    /// A GPU with the kernels that a browser runs.
    Webgpu,
    /// A GPU with kernels in SPIR-V.
    Vulkan,
    /// A GPU of Apple's with kernels in Metal's language.
    Metal,
    /// A GPU of NVIDIA's through CUDA.
    Cuda,
}

impl DeviceChoice {
    /// What `--device` calls it.
    pub fn name(self) -> String {
        value_name(&self)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    Auto,
    Fp32,
    Fp16,
    Q8,
    Q4,
}

impl From<Dtype> for Precision {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Auto => Self::Auto,
            Dtype::Fp32 => Self::Fp32,
            Dtype::Fp16 => Self::Fp16,
            Dtype::Q8 => Self::Q8,
            Dtype::Q4 => Self::Q4,
        }
    }
}

/// What becomes of a picture whose EXIF data say that the camera was not upright.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exif {
    /// It is turned upright, as browsers show it.
    Respect,
    /// It stays as it is stored, as the reference reads it.
    Ignore,
}

/// How progress is shown on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Show {
    /// A bar in a terminal, elsewhere a line every ten seconds.
    Auto,
    /// A bar.
    Bar,
    /// Lines, also at the begin and at the end.
    Lines,
    /// Not at all.
    Off,
}

#[derive(Debug, ClapArgs)]
pub struct Classify {
    /// JPEG, PNG, WebP, GIF, BMP, TIFF or PPM files; folders of them; - for standard input.
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,

    /// Whether a photograph is turned as its EXIF orientation says.
    #[arg(long, value_enum, default_value_t = Exif::Respect)]
    pub exif: Exif,

    /// How many classes to name for each picture.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub top_k: u32,

    #[command(flatten)]
    pub model: Model,

    /// Write JSON to standard output.
    #[arg(long)]
    pub json: bool,
}

/// Which pictures, and how they are read.
#[derive(Debug, ClapArgs)]
pub struct Data {
    /// A folder with a folder of pictures for each class, in it or in its --split; a .tar of such a folder or in
    /// `WebDataset`'s layout; a .parquet of the hub's picture data sets; a pattern of the latter two, such as
    /// 'shard-{000..099}.tar' or 'train-*.parquet'.
    #[arg(long, value_name = "ROOT")]
    pub data_path: PathBuf,

    /// The folder in a folder that is taken; of .parquet files those whose name begins so [default: `val` where there is
    /// such a folder, else all].
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,

    /// Whether a photograph is turned as its EXIF orientation says; the reference ignores it.
    #[arg(long, value_enum, default_value_t = Exif::Ignore)]
    pub exif: Exif,

    /// How many pictures a GPU takes at a time; on a CPU each core takes one.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch_size: u32,

    /// Stop at the first picture that can't be read, in place of counting it.
    #[arg(long)]
    pub strict: bool,

    /// How progress is shown.
    #[arg(long, value_enum, default_value_t = Show::Auto)]
    pub progress: Show,
}

impl Data {
    /// Which part of the data is taken.
    pub fn split(&self) -> Split<'_> {
        self.split
            .as_deref()
            .map_or(Split::IfThere("val"), Split::Named)
    }
}

/// Which of several processes this is [default: as torchrun, Open MPI, PMI or Slurm says].
#[derive(Debug, ClapArgs)]
pub struct World {
    /// The number of this process, from 0.
    #[arg(long, value_name = "N", requires = "world_size")]
    pub rank: Option<u64>,

    /// How many processes share the work.
    #[arg(long, value_name = "N", requires = "rank", value_parser = clap::value_parser!(u64).range(1..))]
    pub world_size: Option<u64>,

    /// The number of this process on its machine: which GPU it takes.
    #[arg(long, value_name = "N", conflicts_with = "adapter")]
    pub local_rank: Option<u64>,
}

#[derive(Debug, ClapArgs)]
pub struct Eval {
    #[command(flatten)]
    pub data: Data,

    /// A folder to keep the counts in while they grow, a file for each process. Started again it goes on from there;
    /// `merge` adds them.
    #[arg(long, value_name = "DIR")]
    pub parts: Option<PathBuf>,

    /// How often they are written, in seconds, if that takes no more than a fiftieth of the time.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds, requires = "parts")]
    pub save_every: Duration,

    /// A file to write with a line of JSON for each picture, - for standard output: its path, its class, the likeliest
    /// five. With several processes each has its own, by its number. One that is there is replaced or gone on with if it is
    /// of the same model, data and options, else it is an error.
    #[arg(long, value_name = "FILE")]
    pub results_file: Option<PathBuf>,

    /// A folder to write the report to: all of it as JSON, classes and confusion as CSV, confusion as SVG. With several
    /// processes each writes that of its part, to a folder in it such as part-00000-of-00002; `merge --report` writes that
    /// of all.
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,

    #[command(flatten)]
    pub world: World,

    #[command(flatten)]
    pub model: Model,

    /// Write JSON to standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Merge {
    /// Counts that `eval --parts` or `eval --json` wrote; of all processes.
    #[arg(required = true, value_name = "PART.json")]
    pub parts: Vec<PathBuf>,

    /// A folder to write the report to: all of it as JSON, classes and confusion as CSV, confusion as SVG.
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,

    /// Write JSON to standard output.
    #[arg(long)]
    pub json: bool,
}

/// What becomes of the tokens of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pool {
    /// Their mean.
    Mean,
    /// As the probe's attention pools them, before it classifies.
    Probe,
    /// All are written.
    None,
}

/// The files that features are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureFormat {
    Npy,
    Safetensors,
}

/// The type of the numbers that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureDtype {
    Fp32,
    Fp16,
}

#[derive(Debug, ClapArgs)]
pub struct Features {
    #[command(flatten)]
    pub data: Data,

    /// The folder to write, laid out as clip-retrieval does: `img_emb/img_emb_0.npy`, `metadata/metadata_0.parquet`.
    /// Started again, partitions that are there are not made again.
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,

    /// The blocks whose outputs are averaged: best, last, or numbers from 0 such as 12,13,14 [default: those of
    /// --probe-layers].
    #[arg(long, value_name = "best|last|LIST", conflicts_with = "probe_layers")]
    pub layers: Option<ProbeLayers>,

    /// What becomes of the tokens of a picture.
    #[arg(long, value_enum, default_value_t = Pool::Mean)]
    pub pool: Pool,

    /// The files that are written.
    #[arg(long, value_enum, default_value_t = FeatureFormat::Npy)]
    pub format: FeatureFormat,

    /// The type of the numbers that are written.
    #[arg(long, value_enum, default_value_t = FeatureDtype::Fp32)]
    pub output_dtype: FeatureDtype,

    /// How many files of features to write. Several processes share them out.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PARTITIONS)))]
    pub partitions: u32,

    #[command(flatten)]
    pub world: World,

    #[command(flatten)]
    pub model: Model,

    /// Write JSON to standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Run {
    /// A safetensors file with the tensor `input`: [batch, 3, height, width], normalised.
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,

    /// Where to write `logits`, and `features.0` and so on; - for standard output.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,

    /// Also write the output of every block that runs.
    #[arg(long)]
    pub features: bool,

    #[command(flatten)]
    pub model: Model,

    /// Write JSON to standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Preprocess {
    /// JPEG, PNG, WebP, GIF, BMP, TIFF or PPM files; - for standard input.
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<PathBuf>,

    /// Whether a photograph is turned as its EXIF orientation says; the reference ignores it.
    #[arg(long, value_enum, default_value_t = Exif::Ignore)]
    pub exif: Exif,

    /// Where to write the tensor `input`: [pictures, 3, size, size]; - for standard output.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,

    /// The side of the crop in pixels [default: that of --model or --config, else 224].
    #[arg(long, value_name = "PIXELS", value_parser = img_size)]
    pub img_size: Option<usize>,

    #[command(flatten)]
    pub model: Model,

    /// Write JSON to standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Inspect {
    /// What to look at, as --model takes it; without it, what --model or --backbone and --head
    /// name, or the model inside this program.
    #[arg(value_name = "PATH|NAME|URL", conflicts_with_all = ["model", "backbone", "head"])]
    pub path: Option<String>,

    #[command(flatten)]
    pub model: Model,

    /// Write JSON to standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Parity {
    /// A safetensors file with `logits` and `features.0` and so on, whole or as samples
    /// (`.idx`, `.val`, `.stats`).
    #[arg(long, value_name = "FILE")]
    pub reference: PathBuf,

    /// A safetensors file with the tensor `input` that the reference saw [default: the one in
    /// --reference].
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,

    /// The largest error allowed, relative to the largest value of the reference
    /// [default: 1e-5 on the CPU, 1e-4 on a GPU, 1e-2 in fp16, 1e-1 in q8, 1 in q4].
    #[arg(long, value_name = "E", value_parser = tolerance)]
    pub tolerance: Option<f64>,

    #[command(flatten)]
    pub model: Model,

    /// Write JSON to standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Convert {
    /// The folder to write.
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,

    /// Weights that share a scale, in q4 and q8: 32, 64 or 128 [default: 64].
    #[arg(long, value_name = "N", value_parser = group_size)]
    pub group_size: Option<usize>,

    /// Replace the folder if it is there and holds a model.
    #[arg(long)]
    pub overwrite: bool,

    #[command(flatten)]
    pub model: Model,

    /// Write JSON to standard output.
    #[arg(long)]
    pub json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok();
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "must be a number of seconds".to_owned())
}

fn img_size(text: &str) -> Result<usize, String> {
    let preprocessor = Preprocessor::new(number(text)?);
    preprocessor
        .map(|preprocessor| preprocessor.img_size())
        .map_err(|error| error.to_string())
}

fn rate(text: &str) -> Result<f32, String> {
    let rate = number(text)?;
    let options = Options {
        rate: Some(rate),
        ..Options::default()
    };
    options.check().map_err(|error| error.to_string())?;
    Ok(rate)
}

fn share(text: &str) -> Result<f32, String> {
    let share = number(text)?;
    let options = Options {
        held_out: HeldOut::Share(share),
        ..Options::default()
    };
    options.check().map_err(|error| error.to_string())?;
    Ok(share)
}

fn number<N: FromStr<Err: Display>>(text: &str) -> Result<N, String> {
    text.parse().map_err(|error: N::Err| error.to_string())
}

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(tolerance) if (0.0..f64::INFINITY).contains(&tolerance) => Ok(tolerance),
        _ => Err("must be a number from 0 on".to_owned()),
    }
}

fn group_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size @ (32 | 64 | 128)) => Ok(size),
        _ => Err("must be 32, 64 or 128".to_owned()),
    }
}

#[derive(Debug, ClapArgs)]
pub struct Train {
    /// A folder with a folder of pictures for each class, in it or in its `train`; pictures in its `val` are then
    /// what is held out.
    #[arg(long, value_name = "ROOT")]
    pub data_path: PathBuf,

    /// The folder to write: a model of head.safetensors, which names its trunk, config.json and labels.json.
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,

    /// Which head: attention (the probe of the paper), linear (logistic regression on the mean of the tokens), mean
    /// (the nearest mean of a class), or auto, by how many pictures a class has.
    #[arg(long, value_name = "HEAD", default_value = "auto")]
    pub head: HeadKind,

    /// How often each picture is seen [default: 10 to 40 with attention, the fewer pictures the more; 150 with linear].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub epochs: Option<u32>,

    /// The highest rate of learning [default: 1e-3 with attention, 5e-3 with linear].
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub lr: Option<f32>,

    /// The share of each class that is held out to say how good the head is; the one that is written is then trained
    /// on all pictures [default: 0.2, or the data's own `val`]; with 0 one picture of a class is enough.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub val_split: Option<f32>,

    /// Also learn from each picture's mirror image and from two parts of it.
    #[arg(long)]
    pub augment: bool,

    /// Another seed gives another order, another start, and another part that is held out.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Write the whole model, trunk and head, in place of the head alone.
    #[arg(long)]
    pub full: bool,

    /// Replace the folder if it is there and holds a model.
    #[arg(long)]
    pub overwrite: bool,

    /// Whether a photograph is turned as its EXIF orientation says.
    #[arg(long, value_enum, default_value_t = Exif::Respect)]
    pub exif: Exif,

    /// How progress is shown on standard error.
    #[arg(long, value_enum, default_value_t = Show::Auto)]
    pub progress: Show,

    #[command(flatten)]
    pub frozen: Frozen,

    /// Write JSON to standard output.
    #[arg(long)]
    pub json: bool,
}

/// Which model's trunk, and where it runs: as [`Model`], but for Apple's pairs by file, whose `--head` here says how to train.
#[derive(Clone, Debug, ClapArgs)]
pub struct Frozen {
    /// Whose trunk is frozen: a directory, a checkpoint file, a repository of the hub such as user/name or
    /// user/name@revision, or a URL; without it, the model inside this program.
    #[arg(long, value_name = "PATH|NAME|URL")]
    pub model: Option<String>,

    /// What lies below a head that was trained alone, if it is not where the head says: as --model takes it.
    #[arg(long, value_name = "PATH|NAME|URL")]
    pub trunk: Option<String>,

    /// The released model that the files are of: aim-600M, aim-1B, aim-3B or aim-7B. Of Apple's files in a directory or
    /// a repository (apple/AIM) it chooses.
    #[arg(long, value_name = "NAME")]
    pub arch: Option<Family>,

    /// The head is trained on the CPU, wherever the trunk runs.
    #[command(flatten)]
    pub settings: Settings,
}

impl From<&Frozen> for Model {
    fn from(frozen: &Frozen) -> Self {
        Self {
            source: Source {
                model: frozen.model.clone(),
                backbone: None,
                head: None,
                config: None,
                arch: frozen.arch,
                trunk: frozen.trunk.clone(),
            },
            settings: frozen.settings.clone(),
        }
    }
}

#[derive(Debug, ClapArgs)]
pub struct Synth {
    /// The released model whose shape it gets: aim-600M, aim-1B, aim-3B or aim-7B.
    #[arg(long, value_name = "NAME")]
    pub arch: Family,

    /// The folder to write: 2.8, 4.9, 11 or 26 GB.
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,

    /// As what files: safetensors, torch (`pytorch_model.bin`) or apple (a backbone and a probe).
    #[arg(long, value_name = "FORMAT", default_value = "safetensors")]
    pub format: Format,
    /// Another seed gives other weights.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Replace the folder if it is there and holds a model.
    #[arg(long)]
    pub overwrite: bool,

    /// Write JSON to standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Devices {
    /// Write JSON to standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Cache {
    #[command(subcommand)]
    pub action: CacheAction,
}

#[derive(Debug, Subcommand)]
pub enum CacheAction {
    /// Name them and what they take.
    List {
        /// Write JSON to standard output.
        #[arg(long)]
        json: bool,
    },
    /// Delete the chunks of one, of every revision.
    Delete {
        /// Its name on the hub, or its URL.
        name: String,
    },
}
