//! What `bench` can be asked for, and its parts that run in processes of their own.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use aim_web::config::{Config, Family, ProbeLayers};
use aim_web::{Error, ErrorKind, Result};
use clap::Args as ClapArgs;

use super::{DeviceChoice, Dtype, Model, Settings, Source, Target, threads, value_name};

#[derive(Debug, ClapArgs)]
pub struct Bench {
    #[command(flatten)]
    pub source: Source,

    /// Models of random weights that need no checkpoint: aim-600M, aim-1B, aim-3B, aim-7B; tiny (192x12) or small (384x12);
    /// or channels x blocks, such as 256x4.
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        conflicts_with_all = ["model", "backbone", "head", "config", "arch", "trunk"]
    )]
    pub synthetic: Vec<Synthetic>,

    /// Where to run; several, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "auto")]
    pub device: Vec<DeviceChoice>,

    /// Which GPU, by its number in `aim-bench devices`; several, for several GPUs [default: the most powerful one].
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub adapter: Vec<usize>,

    /// The precisions of the weights: several of auto, fp32, fp16, q8, q4.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "auto")]
    pub dtype: Vec<Dtype>,

    /// How many pictures run at once.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,8,32", value_parser = batch())]
    pub batch: Vec<u32>,

    /// The blocks whose outputs the probe averages: best, last, both as best,last, or numbers from 0 such as 12,13,14; may be
    /// given several times [default: what the model was published with].
    #[arg(long, value_name = "best|last|LIST", value_parser = several_probe_layers)]
    pub probe_layers: Vec<SeveralProbeLayers>,

    /// How many threads of the CPU to use, several after another [default: `RAYON_NUM_THREADS`, else all cores].
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = threads())]
    pub threads: Vec<u16>,

    #[command(flatten)]
    pub timing: Timing,

    /// Begins no further combination after so many seconds.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub time_limit: Option<f64>,

    /// Also draw the pictures a second to this file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// Also write the table to this file, as Markdown.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,

    /// Write JSON to standard output.
    #[arg(long)]
    pub json: bool,
}

/// How long is measured.
#[derive(Clone, Copy, Debug, ClapArgs)]
pub struct Timing {
    /// Batches before the first that is timed.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub warmup: u32,

    /// Batches that are timed [default: as many as --seconds allow, at least 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runs: Option<u32>,

    /// How long batches are timed for.
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = seconds)]
    pub seconds: f64,
}

/// One model on one device in one precision, with several batches.
#[derive(Debug, ClapArgs)]
pub struct BenchModel {
    #[command(flatten)]
    pub model: Model,

    #[arg(long)]
    pub synthetic: Option<Synthetic>,

    #[arg(long, value_delimiter = ',', value_parser = batch())]
    pub batch: Vec<u32>,

    #[command(flatten)]
    pub timing: Timing,
}

/// The fastest products of a device.
#[derive(Debug, ClapArgs)]
pub struct BenchPeak {
    #[command(flatten)]
    pub target: Target,

    #[arg(long, value_parser = threads())]
    pub threads: Option<u16>,

    #[arg(long, value_enum)]
    pub dtype: Dtype,
}

/// The settings of one `--probe-layers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeveralProbeLayers(pub Vec<ProbeLayers>);

fn several_probe_layers(text: &str) -> Result<SeveralProbeLayers> {
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    let settings = if words.iter().all(|word| matches!(*word, "best" | "last")) {
        words
            .into_iter()
            .map(str::parse)
            .collect::<Result<Vec<_>>>()?
    } else {
        vec![text.parse()?]
    };
    Ok(SeveralProbeLayers(settings))
}

fn batch() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=4096)
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("must be a number of seconds from 0 to 3600".to_owned()),
    }
}

/// A model of random weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synthetic {
    /// As it was asked for.
    pub name: String,
    pub config: Config,
}

impl FromStr for Synthetic {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let family = name
            .parse::<Family>()
            .or_else(|error| format!("aim-{name}").parse().map_err(|_: Error| error));
        let shape = match name {
            "tiny" => Some((192, 12)),
            "small" => Some((384, 12)),
            _ => name
                .split_once('x')
                .and_then(|(dim, blocks)| Some((dim.parse().ok()?, blocks.parse().ok()?))),
        };
        let config = match (family, shape) {
            (Ok(family), _) => family.config(),
            (_, Some((dim, blocks))) => small(dim, blocks)?,
            (Err(_), None) => {
                let names = Family::ALL.map(Family::name).join(", ");
                return Err(Error::new(
                    ErrorKind::Option,
                    format!(
                        "{name:?} is no model: there are {names}, tiny, small, and channels x blocks such as 256x4"
                    ),
                ));
            }
        };
        Ok(Self {
            name: name.to_owned(),
            config,
        })
    }
}

/// A model with heads of 64 channels, if they fall into such, whose probe averages the upper half of its blocks.
fn small(embed_dim: usize, num_blocks: usize) -> Result<Config> {
    let num_heads = if embed_dim.is_multiple_of(64) {
        embed_dim / 64
    } else {
        1
    };
    let probe_layers: Vec<usize> = (num_blocks / 2..num_blocks.min(512)).collect();
    let json = serde_json::json!({
        "embed_dim": embed_dim,
        "num_blocks": num_blocks,
        "num_heads": num_heads,
        "probe_layers": probe_layers,
    });
    // The numbers are a user's: they are checked as those of a file are.
    Config::from_json(&json.to_string())
}

/// An argument and its value.
fn option(args: &mut Vec<OsString>, name: &str, value: Option<impl Into<OsString>>) {
    if let Some(value) = value {
        args.push(name.into());
        args.push(value.into());
    }
}

impl Target {
    /// As it is written on a command line.
    pub fn to_args(self) -> Vec<OsString> {
        let mut args = Vec::new();
        option(&mut args, "--device", Some(self.device.name()));
        let adapter = self.adapter.map(|adapter| adapter.to_string());
        option(&mut args, "--adapter", adapter);
        args
    }
}

impl BenchModel {
    /// As it is written on a command line.
    pub fn to_args(&self) -> Vec<OsString> {
        let Model {
            source,
            settings:
                Settings {
                    probe_layers,
                    target,
                    threads,
                    dtype,
                },
        } = &self.model;
        let mut args = vec!["bench-model".into()];
        option(&mut args, "--model", source.model.clone());
        option(&mut args, "--backbone", source.backbone.clone());
        option(&mut args, "--head", source.head.clone());
        option(&mut args, "--config", source.config.clone());
        let arch = source.arch.map(Family::name);
        option(&mut args, "--arch", arch);
        option(&mut args, "--trunk", source.trunk.clone());
        let synthetic = self.synthetic.as_ref().map(|synthetic| &synthetic.name);
        option(&mut args, "--synthetic", synthetic);
        let layers = probe_layers.as_ref().map(|layers| match layers {
            ProbeLayers::Best => "best".to_owned(),
            ProbeLayers::Last => "last".to_owned(),
            ProbeLayers::List(layers) => joined(layers),
        });
        option(&mut args, "--probe-layers", layers);
        args.extend(target.to_args());
        let threads = threads.map(|threads| threads.to_string());
        option(&mut args, "--threads", threads);
        option(&mut args, "--dtype", Some(value_name(dtype)));
        option(&mut args, "--batch", Some(joined(&self.batch)));
        let Timing {
            warmup,
            runs,
            seconds,
        } = self.timing;
        option(&mut args, "--warmup", Some(warmup.to_string()));
        option(&mut args, "--runs", runs.map(|runs| runs.to_string()));
        option(&mut args, "--seconds", Some(seconds.to_string()));
        args
    }
}

impl BenchPeak {
    /// As it is written on a command line.
    pub fn to_args(&self) -> Vec<OsString> {
        let mut args = vec!["bench-peak".into()];
        args.extend(self.target.to_args());
        let threads = self.threads.map(|threads| threads.to_string());
        option(&mut args, "--threads", threads);
        option(&mut args, "--dtype", Some(value_name(&self.dtype)));
        args
    }
}

fn joined(numbers: &[impl ToString]) -> String {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    numbers.join(",")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    #[test]
    fn models_of_random_weights_have_names_and_sizes() {
        let config = |name: &str| name.parse::<Synthetic>().map(|synthetic| synthetic.config);
        assert_eq!(config("aim-7B").unwrap(), Family::Aim7B.config());
        assert_eq!(config("1B").unwrap(), Family::Aim1B.config());
        let tiny = config("tiny").unwrap();
        assert_eq!(
            (tiny.embed_dim, tiny.num_blocks, tiny.num_heads),
            (192, 12, 3)
        );
        assert_eq!(tiny.probe_layers, [6, 7, 8, 9, 10, 11]);
        assert_eq!(config("192x12").unwrap(), tiny);
        assert_eq!(config("20x1").unwrap().probe_layers, [0]);
        for wrong in [
            "aim-2B", "x", "192x", "0x12", "192x0", "6x2", "99999x1", "64x99999",
        ] {
            assert!(config(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn probe_layers_are_settings_or_one_list() {
        let settings = |text: &str| several_probe_layers(text).map(|several| several.0);
        assert_eq!(
            settings("best,last").unwrap(),
            [ProbeLayers::Best, ProbeLayers::Last]
        );
        assert_eq!(
            settings("3,0,3").unwrap(),
            [ProbeLayers::List(vec![3, 0, 3])]
        );
        assert!(settings("best,3").is_err());
    }

    #[test]
    fn a_part_says_on_its_command_line_all_that_it_was_given() {
        let line = [
            "aim-bench",
            "bench-model",
            "--backbone",
            "a b.pth",
            "--head",
            "c.pth",
            "--arch",
            "aim-1B",
            "--probe-layers",
            "3,0,3",
            "--device",
            "gpu",
            "--adapter",
            "2",
            "--threads",
            "3",
            "--dtype",
            "q4",
            "--batch",
            "1,8",
            "--warmup",
            "1",
            "--runs",
            "4",
            "--seconds",
            "0.5",
        ];
        let Command::BenchModel(part) = Args::try_parse_from(line).unwrap().command else {
            panic!("another command");
        };
        assert_eq!(
            part.to_args(),
            line[1..].iter().map(OsString::from).collect::<Vec<_>>()
        );
        let line = [
            "aim-bench",
            "bench-model",
            "--model",
            "mine",
            "--trunk",
            "user/trunk",
        ];
        let Command::BenchModel(part) = Args::try_parse_from(line).unwrap().command else {
            panic!("another command");
        };
        let again = part.to_args();
        assert!(
            line[1..]
                .iter()
                .all(|word| again.contains(&OsString::from(word)))
        );
        let line = [
            "aim-bench",
            "bench-peak",
            "--device",
            "cpu",
            "--dtype",
            "fp32",
        ];
        let Command::BenchPeak(part) = Args::try_parse_from(line).unwrap().command else {
            panic!("another command");
        };
        assert_eq!(
            part.to_args(),
            line[1..].iter().map(OsString::from).collect::<Vec<_>>()
        );
    }
}
