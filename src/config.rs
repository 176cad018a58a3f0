//! The shape of a model: the released family by name, and `config.json` as the hub stores it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result, printable};
use crate::quant::Scheme;

/// The probe of the released models averages this many layers, and `last` takes as many.
const LAST_LAYERS: usize = 6;

/// Bounds on what a `config.json` may ask for, checked before anything is allocated.
///
/// They are wide: AIM-7B has 4096 channels and 32 blocks.
mod limit {
    pub(super) const EMBED_DIM: usize = 1 << 14;
    pub(super) const BLOCKS: usize = 512;
    pub(super) const CLASSES: usize = 1 << 20;
    pub(super) const CHANNELS: usize = 64;
    pub(super) const IMG_SIZE: usize = 4096;
    pub(super) const PATCH_SIZE: usize = 1024;
    pub(super) const PROBE_LAYERS: usize = 4096;
}

/// Everything about an AIM v1 model that its tensors alone do not say.
///
/// Source: the constructor of `AIM` in the reference (`aim/v1/torch/models.py`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Height and width, in pixels, of the pictures the model was trained on.
    pub img_size: [usize; 2],
    /// Height and width of a patch in pixels.
    pub patch_size: [usize; 2],
    /// Colour channels of a picture.
    pub num_channels: usize,
    /// Channels of a token, `D` in the paper.
    pub embed_dim: usize,
    /// Transformer blocks in the trunk.
    pub num_blocks: usize,
    /// Attention heads, of the trunk and of the probe.
    pub num_heads: usize,
    /// Classes of the probe.
    pub num_classes: usize,
    /// The blocks, from 0, whose outputs the probe averages. One listed twice counts twice.
    pub probe_layers: Vec<usize>,
    /// How the checkpoint's matrices are quantised, if they are: `"quantization"`.
    pub quantization: Option<Scheme>,
}

impl Config {
    /// Reads the text of a `config.json`: flat keys, sizes as a number or a pair,
    /// `probe_layers` as a number (the last so many) or a list.
    ///
    /// Keys it does not know are left alone; the hub's configurations carry several.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if the text is not JSON, a key is missing
    /// or of the wrong type, or the numbers describe no model; those of [`Scheme::from_json`].
    pub fn from_json(text: &str) -> Result<Self> {
        RawConfig::from_json(text)?.config()
    }

    /// Reads the `config.json` of a repository of the hub. Those of the released models give
    /// `probe_layers` as a number, their constructor's default: under such a name it stands for
    /// the [best](ProbeLayers::Best) layers, which the published figures are of.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    pub fn of_repository(text: &str, name: &str) -> Result<Self> {
        let raw = RawConfig::from_json(text)?;
        let config = raw.config()?;
        match (&raw.probe_layers, name.parse::<Family>()) {
            (RawProbeLayers::Last(_), Ok(family)) if Family::of(&config) == Some(family) => {
                config.with_probe_layers(&ProbeLayers::Best)
            }
            _ => Ok(config),
        }
    }

    /// The text of a `config.json` that [`from_json`](Self::from_json) reads back unchanged.
    pub fn to_json(&self) -> String {
        let number_or_pair = |[height, width]: [usize; 2]| {
            if height == width {
                RawSize::Square(height)
            } else {
                RawSize::Pair([height, width])
            }
        };
        let raw = RawConfig {
            embed_dim: self.embed_dim,
            img_size: number_or_pair(self.img_size),
            num_blocks: self.num_blocks,
            num_channels: self.num_channels,
            num_classes: self.num_classes,
            num_heads: self.num_heads,
            patch_size: number_or_pair(self.patch_size),
            probe_layers: RawProbeLayers::List(self.probe_layers.clone()),
            quantization: self.quantization.map(Scheme::to_json),
        };
        // Numbers and lists of numbers always have a JSON form.
        serde_json::to_string_pretty(&raw).unwrap_or_default()
    }

    /// The same model with other probe layers.
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if the list is empty or names a block that
    /// the model does not have.
    pub fn with_probe_layers(mut self, layers: &ProbeLayers) -> Result<Self> {
        self.probe_layers = match layers {
            ProbeLayers::Best => match Family::of(&self) {
                Some(family) => family.best_probe_layers(),
                None => self.probe_layers,
            },
            ProbeLayers::Last => {
                let first = self.num_blocks.saturating_sub(LAST_LAYERS);
                (first..self.num_blocks).collect()
            }
            ProbeLayers::List(layers) => layers.clone(),
        };
        check_probe_layers(&self.probe_layers, self.num_blocks).map_err(Error::option)?;
        Ok(self)
    }

    /// Channels of one attention head.
    pub const fn head_dim(&self) -> usize {
        self.embed_dim / self.num_heads
    }

    /// Hidden channels of the MLP: four times the channels of a token.
    pub const fn mlp_hidden_dim(&self) -> usize {
        4 * self.embed_dim
    }

    /// How many blocks have to run for the probe: up to the highest probed one.
    ///
    /// The reference calls it `max_block_id`.
    pub fn blocks_to_run(&self) -> usize {
        self.probe_layers
            .iter()
            .max()
            .map_or(0, |highest| highest + 1)
    }

    /// Rows and columns of patches in a picture; the remainder of a side is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if the picture is smaller than one patch.
    pub fn grid(&self, height: usize, width: usize) -> Result<[usize; 2]> {
        let grid = [height / self.patch_size[0], width / self.patch_size[1]];
        if grid.contains(&0) {
            return Err(Error::option(format!(
                "a picture of {height}x{width} pixels (height x width) is smaller than one patch of {}x{}; give a larger one",
                self.patch_size[0], self.patch_size[1]
            )));
        }
        Ok(grid)
    }

    fn validate(&self) -> Result<()> {
        let bounds = [
            ("img_size", self.img_size[0], limit::IMG_SIZE),
            ("img_size", self.img_size[1], limit::IMG_SIZE),
            ("patch_size", self.patch_size[0], limit::PATCH_SIZE),
            ("patch_size", self.patch_size[1], limit::PATCH_SIZE),
            ("num_channels", self.num_channels, limit::CHANNELS),
            ("embed_dim", self.embed_dim, limit::EMBED_DIM),
            ("num_blocks", self.num_blocks, limit::BLOCKS),
            ("num_heads", self.num_heads, self.embed_dim),
            ("num_classes", self.num_classes, limit::CLASSES),
        ];
        for (key, value, most) in bounds {
            if value == 0 || value > most {
                return Err(Error::format(format!(
                    "{key} is {value}, but must be from 1 to {most}"
                )));
            }
        }
        if !self.embed_dim.is_multiple_of(self.num_heads) {
            return Err(Error::format(format!(
                "embed_dim {} can't be split evenly over {} heads (num_heads)",
                self.embed_dim, self.num_heads
            )));
        }
        if !self.embed_dim.is_multiple_of(4) {
            return Err(Error::format(format!(
                "embed_dim {} is not a multiple of 4, which the sine-cosine position needs",
                self.embed_dim
            )));
        }
        if (0..2).any(|side| self.patch_size[side] > self.img_size[side]) {
            return Err(Error::format(format!(
                "patch_size {:?} is larger than img_size {:?}",
                self.patch_size, self.img_size
            )));
        }
        check_probe_layers(&self.probe_layers, self.num_blocks).map_err(Error::format)
    }
}

fn last_layers(count: usize, num_blocks: usize) -> Result<Vec<usize>> {
    if num_blocks > limit::BLOCKS || count > num_blocks {
        return Err(Error::format(format!(
            "probe_layers asks for the last {count} blocks of {num_blocks}"
        )));
    }
    Ok((num_blocks - count..num_blocks).collect())
}

fn check_probe_layers(layers: &[usize], num_blocks: usize) -> Result<(), String> {
    if layers.is_empty() || layers.len() > limit::PROBE_LAYERS {
        return Err(format!(
            "probe_layers lists {} blocks, but must list from 1 to {}",
            layers.len(),
            limit::PROBE_LAYERS
        ));
    }
    match layers.iter().find(|&&layer| layer >= num_blocks) {
        Some(layer) => Err(format!(
            "probe_layers names block {layer}, but the model has blocks 0 to {}",
            num_blocks - 1
        )),
        None => Ok(()),
    }
}

/// The keys of `config.json` as the hub's mixin writes them.
#[derive(Deserialize, Serialize)]
struct RawConfig {
    embed_dim: usize,
    #[serde(default = "defaults::img_size")]
    img_size: RawSize,
    num_blocks: usize,
    #[serde(default = "defaults::num_channels")]
    num_channels: usize,
    #[serde(default = "defaults::num_classes")]
    num_classes: usize,
    num_heads: usize,
    #[serde(default = "defaults::patch_size")]
    patch_size: RawSize,
    #[serde(default = "defaults::probe_layers")]
    probe_layers: RawProbeLayers,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantization: Option<Value>,
}

impl RawConfig {
    fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| {
            Error::format(format!(
                "not a model configuration: {}",
                printable(&error.to_string())
            ))
        })
    }

    fn config(&self) -> Result<Config> {
        let config = Config {
            img_size: self.img_size.pair(),
            patch_size: self.patch_size.pair(),
            num_channels: self.num_channels,
            embed_dim: self.embed_dim,
            num_blocks: self.num_blocks,
            num_heads: self.num_heads,
            num_classes: self.num_classes,
            probe_layers: match &self.probe_layers {
                RawProbeLayers::Last(count) => last_layers(*count, self.num_blocks)?,
                RawProbeLayers::List(layers) => layers.clone(),
            },
            quantization: self
                .quantization
                .as_ref()
                .map(Scheme::from_json)
                .transpose()?,
        };
        config.validate()?;
        Ok(config)
    }
}

/// What the reference's constructor takes where the hub's file is silent.
mod defaults {
    use super::{LAST_LAYERS, RawProbeLayers, RawSize};

    pub(super) const fn img_size() -> RawSize {
        RawSize::Square(224)
    }
    pub(super) const fn patch_size() -> RawSize {
        RawSize::Square(14)
    }
    pub(super) const fn num_channels() -> usize {
        3
    }
    pub(super) const fn num_classes() -> usize {
        1000
    }
    pub(super) const fn probe_layers() -> RawProbeLayers {
        RawProbeLayers::Last(LAST_LAYERS)
    }
}

#[derive(Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a whole number or a pair of them")]
enum RawSize {
    Square(usize),
    Pair([usize; 2]),
}

impl RawSize {
    const fn pair(&self) -> [usize; 2] {
        match *self {
            Self::Square(side) => [side, side],
            Self::Pair(pair) => pair,
        }
    }
}

#[derive(Deserialize, Serialize)]
#[serde(
    untagged,
    expecting = "expected probe_layers as a whole number or a list of them"
)]
enum RawProbeLayers {
    Last(usize),
    List(Vec<usize>),
}

/// Which blocks the probe averages, as a user names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeLayers {
    /// The layers that gave a released model its best accuracy; for another model, its own list.
    Best,
    /// The last six blocks.
    Last,
    /// These blocks, from 0.
    List(Vec<usize>),
}

impl FromStr for ProbeLayers {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "best" => Ok(Self::Best),
            "last" => Ok(Self::Last),
            list => list
                .split(',')
                .map(|layer| layer.trim().parse())
                .collect::<Result<_, _>>()
                .map(Self::List)
                .map_err(|_| {
                    Error::option(format!(
                        "probe layers {text:?} are not `best`, `last` or a list of block numbers such as 3,0,3"
                    ))
                }),
        }
    }
}

/// The four models of the paper (table 1 and the reference's hub names).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// 0.6 billion parameters.
    Aim600M,
    /// 1 billion parameters.
    Aim1B,
    /// 3 billion parameters.
    Aim3B,
    /// 7 billion parameters.
    Aim7B,
}

impl Family {
    /// All of them, the smallest first.
    pub const ALL: [Self; 4] = [Self::Aim600M, Self::Aim1B, Self::Aim3B, Self::Aim7B];

    /// The name used on the hub, without `apple/`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aim600M => "aim-600M",
            Self::Aim1B => "aim-1B",
            Self::Aim3B => "aim-3B",
            Self::Aim7B => "aim-7B",
        }
    }

    /// The configuration, with the best probe layers.
    pub fn config(self) -> Config {
        let (embed_dim, num_blocks, num_heads) = match self {
            Self::Aim600M => (1536, 24, 12),
            Self::Aim1B => (2048, 24, 16),
            Self::Aim3B => (3072, 24, 24),
            Self::Aim7B => (4096, 32, 32),
        };
        Config {
            img_size: [224, 224],
            patch_size: [14, 14],
            num_channels: 3,
            embed_dim,
            num_blocks,
            num_heads,
            num_classes: 1000,
            probe_layers: self.best_probe_layers(),
            quantization: None,
        }
    }

    /// The member that a configuration describes, whatever its classes and probe layers.
    pub fn of(config: &Config) -> Option<Self> {
        Self::ALL.into_iter().find(|family| {
            let own = family.config();
            (config.embed_dim, config.num_blocks, config.num_heads)
                == (own.embed_dim, own.num_blocks, own.num_heads)
                && config.patch_size == own.patch_size
        })
    }

    fn best_probe_layers(self) -> Vec<usize> {
        match self {
            Self::Aim600M | Self::Aim7B => (14..=19).collect(),
            Self::Aim1B | Self::Aim3B => (12..=17).collect(),
        }
    }
}

impl FromStr for Family {
    type Err = Error;

    /// Takes the name with or without `apple/`, in any case, as the hub does.
    fn from_str(text: &str) -> Result<Self> {
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_prefix("apple/").unwrap_or(&lower);
        Self::ALL
            .into_iter()
            .find(|family| family.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::name).join(", ");
                Error::option(format!(
                    "no AIM model is called {:?}; there are {names}",
                    printable(text)
                ))
            })
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
