//! A head as a file that knows its trunk: `head.safetensors`.
//!
//! Its tensors are those of a checkpoint's `head.`, matrices in F16; its `__metadata__` holds the configuration of the
//! whole model, the labels and what trunk it belongs to. So the file is a model by itself, wherever the trunk can be found.
//! The format is in `docs/teach.md`.

use std::collections::BTreeMap;

use half::f16;
use serde_json::Value;

use super::compact::Compact;
use super::head::{Head, HeadKind};
use crate::config::{Config, Family, ProbeLayers};
use crate::engine::Engine;
use crate::error::{At as _, Error, ErrorKind, Result, printable};
use crate::labels::Labels;
use crate::weights::checkpoint::dtype::{Decoder, Dtype};
use crate::weights::checkpoint::safetensors::{Header, write_header};
use crate::weights::checkpoint::tensor_info::TensorInfo;

/// What a head's file is called in a model's folder.
pub const HEAD_FILE: &str = "head.safetensors";

/// The name of the embedded model, as a trunk.
pub const EMBEDDED: &str = "aim-tiny";

/// The keys of the file's metadata.
const CONFIG: &str = "aim.config";
const LABELS: &str = "aim.labels";

/// The trunk that a head was trained on: where it is, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trunk {
    /// A name of the hub, perhaps with its revision behind an `@`, a URL, a folder or a file of this machine, or
    /// [`EMBEDDED`].
    pub name: String,
    /// Which released model it is, where its name does not say it.
    pub arch: Option<String>,
    /// The SHA-256 over names, shapes and CRC-32s of the tensors that run, by [`TrunkHasher`](crate::weights::load::trunk_hash::TrunkHasher): 64
    /// hexadecimal digits.
    pub sha256: String,
}

impl Trunk {
    /// The trunk that the text of a `config.json` names, if it is that of a head alone.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if it names none rightly.
    pub fn of_config(text: &str) -> Result<Option<Self>> {
        let config: Value = serde_json::from_str(text).map_err(|error| {
            Error::format(format!(
                "not a model configuration: {}",
                printable(&error.to_string())
            ))
        })?;
        // Others may use the word for something else.
        if !config["trunk"].is_object() {
            return Ok(None);
        }
        let text = |key: &str| config["trunk"][key].as_str().map(str::to_owned);
        let trunk = Self {
            name: text("name").unwrap_or_default(),
            arch: text("arch"),
            sha256: text("sha256").unwrap_or_default(),
        };
        trunk.check()?;
        Ok(Some(trunk))
    }

    /// The released model that it is, if that is said.
    ///
    /// # Errors
    /// [`ErrorKind::Option`] if there is no such model.
    pub fn family(&self) -> Result<Option<Family>> {
        self.arch.as_deref().map(str::parse).transpose()
    }

    /// Whether a trunk of this hash is this one.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] if it is another one.
    pub fn expect(&self, sha256: &str) -> Result<()> {
        if self.sha256 == sha256 {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Integrity,
            format!(
                "the head was trained on another trunk: {} whose hash is {}, and this one's is {}; it would name things \
                 at random. Name the trunk that it was trained on, or train it anew on this one",
                printable(&self.name),
                self.sha256.get(..12).unwrap_or_default(),
                sha256.get(..12).unwrap_or_default(),
            ),
        ))
    }

    fn check(&self) -> Result<()> {
        let is_hash = self.sha256.len() == 64 && self.sha256.bytes().all(|b| b.is_ascii_hexdigit());
        if self.name.is_empty() || !is_hash {
            return Err(Error::format(
                "its \"trunk\" must have a \"name\", and a \"sha256\" of 64 hexadecimal digits",
            ));
        }
        Ok(())
    }
}

/// A head with what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadFile {
    /// Its tensors.
    pub head: Head,
    /// The whole model's configuration, with the head's classes; in floats, as the head is.
    pub config: Config,
    /// Its classes.
    pub labels: Labels,
    /// The trunk below it.
    pub trunk: Trunk,
}

impl HeadFile {
    /// Joins a trained head to the configuration of its trunk.
    pub fn new(head: Head, config: &Config, classes: &[String], trunk: Trunk) -> Self {
        Self {
            config: Config {
                num_classes: head.num_classes(),
                quantization: None,
                ..config.clone()
            },
            labels: Labels::new(classes.to_vec()),
            head,
            trunk,
        }
    }

    /// The model with this head, on the trunk of a loaded one.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] if it is another trunk, or read at other layers or sizes of
    /// picture.
    pub fn on(&self, engine: &dyn Engine) -> Result<Box<dyn Engine>> {
        self.trunk.expect(engine.trunk_sha256())?;
        let [own, trunks] = [&self.config, engine.config()]
            .map(|config| (&config.probe_layers, config.img_size, config.patch_size));
        if own != trunks {
            return Err(Error::new(
                ErrorKind::Integrity,
                format!(
                    "the head was trained on layers {:?} and pictures of {:?} pixels, but the model gives layers {:?} of \
                     {:?}",
                    own.0, own.1, trunks.0, trunks.1
                ),
            ));
        }
        engine.with_head(&self.head)
    }

    /// The configuration by which the trunk is loaded: at the layers that the head reads.
    ///
    /// # Errors
    /// [`ErrorKind::Option`] if other layers are asked for; [`ErrorKind::Integrity`] if the trunk has no such layers.
    pub fn config_of_trunk(&self, trunk: Config, asked: Option<&ProbeLayers>) -> Result<Config> {
        let own = &self.config.probe_layers;
        if let Some(asked) = asked
            && trunk.clone().with_probe_layers(asked)?.probe_layers != *own
        {
            return Err(Error::option(format!(
                "the head was trained on the layers {own:?}: it can read no others"
            )));
        }
        trunk
            .with_probe_layers(&ProbeLayers::List(own.clone()))
            .map_err(|error| {
                Error::new(
                    ErrorKind::Integrity,
                    format!("the head was trained on another trunk: {error}"),
                )
            })
    }

    /// The text of the folder's `config.json`.
    pub fn config_json(&self) -> String {
        let Trunk { name, arch, sha256 } = &self.trunk;
        let arch = arch
            .as_ref()
            .map(|arch| format!("\n    \"arch\": {},", quoted(arch)));
        let config = self.config.to_json();
        format!(
            "{},\n  \"head\": \"{}\",\n  \"trunk\": {{\n    \"name\": {},{}\n    \"sha256\": {}\n  }}\n}}\n",
            config.strip_suffix("\n}").unwrap_or(&config),
            self.head.kind,
            quoted(name),
            arch.unwrap_or_default(),
            quoted(sha256),
        )
    }

    /// The text of the folder's `labels.json`.
    pub fn labels_json(&self) -> String {
        let names: Vec<String> = self
            .labels
            .names()
            .iter()
            .map(|name| quoted(name))
            .collect();
        format!("[\n  {}\n]\n", names.join(",\n  "))
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if a tensor is too large for any file.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let Head {
            running_mean,
            running_var,
            cls_token,
            k,
            v,
            linear,
            ..
        } = &self.head;
        let (dim, classes) = (self.head.dim(), self.head.num_classes());
        self.write(&[
            ("head.bn.running_mean", Dtype::F32, &[dim], running_mean),
            ("head.bn.running_var", Dtype::F32, &[dim], running_var),
            ("head.cls_token", Dtype::F32, &[1, 1, dim], cls_token),
            ("head.k.weight", Dtype::F16, &[dim, dim], k),
            ("head.v.weight", Dtype::F16, &[dim, dim], v),
            ("head.linear.weight", Dtype::F16, &[classes, dim], linear),
        ])
    }

    /// The bytes of a file with the head in fewer numbers, for a link.
    ///
    /// # Errors
    /// Those of [`Compact::of`].
    pub fn to_compact_bytes(&self) -> Result<Vec<u8>> {
        let compact = Compact::of(&self.head)?;
        let (dim, classes) = (self.head.dim(), self.head.num_classes());
        let heads = compact.queries.len() / dim;
        let per_class = compact.linear.len() / classes / dim;
        let (mean, queries, linear) = ([dim], [heads, dim], [classes, per_class, dim]);
        let mut tensors: Vec<Tensor<'_>> = vec![(MEAN, Dtype::F32, &mean, &compact.mean)];
        if heads > 0 {
            tensors.push((QUERIES, Dtype::F16, &queries, &compact.queries));
        }
        tensors.push((LINEAR, Dtype::F16, &linear, &compact.linear));
        self.write(&tensors)
    }

    fn write(&self, tensors: &[Tensor<'_>]) -> Result<Vec<u8>> {
        let infos: Vec<TensorInfo> = tensors
            .iter()
            .map(|&(name, dtype, shape, _)| TensorInfo {
                name: name.to_owned(),
                dtype,
                shape: shape.to_vec(),
            })
            .collect();
        let (config, labels) = (self.config_json(), self.labels_json());
        let metadata = [
            ("format", "pt"),
            (CONFIG, config.as_str()),
            (LABELS, labels.as_str()),
        ];
        let (mut bytes, _) = write_header(&infos, &metadata)?;
        for (_, dtype, _, values) in tensors {
            for &value in *values {
                match dtype {
                    Dtype::F16 => bytes.extend(f16::from_f32(value).to_le_bytes()),
                    _ => bytes.extend(value.to_le_bytes()),
                }
            }
        }
        Ok(bytes)
    }

    /// Reads the bytes of a file, whole or compact.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if it is no such file: of something else, damaged, of a model that
    /// can't be, with a tensor that is missing, of another shape, or not finite. Those of [`Compact::into_head`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let header = Header::parse(bytes, bytes.len() as u64)?;
        let text = |key: &str| {
            header.metadata(key).ok_or_else(|| {
                Error::format(format!(
                    "holds no head that was taught: its metadata has no {key}"
                ))
            })
        };
        let config_text = text(CONFIG)?;
        let config = Config {
            // It would be the trunk's: a head is in floats.
            quantization: None,
            ..Config::from_json(config_text).at(CONFIG)?
        };
        let trunk = Trunk::of_config(config_text).at(CONFIG)?;
        let trunk = trunk.ok_or_else(|| Error::format("its configuration names no trunk"))?;
        let labels = Labels::from_json(text(LABELS)?, config.num_classes).at(LABELS)?;
        let labels = labels.ok_or_else(|| Error::format("its labels are no list of names"))?;
        let kind = serde_json::from_str::<Value>(config_text)
            .ok()
            .and_then(|value| value["head"].as_str()?.parse().ok())
            .filter(|kind| *kind != HeadKind::Auto)
            .unwrap_or(HeadKind::Attention);

        let mut tensors = BTreeMap::new();
        for (index, info) in header.tensors().iter().enumerate() {
            // What a page keeps beside the head.
            if info.name.starts_with(LESSON) {
                continue;
            }
            let range = header.range(index).unwrap_or_default();
            let ends = usize::try_from(range.start)
                .ok()
                .zip(usize::try_from(range.end).ok());
            let data = ends.and_then(|(start, end)| bytes.get(start..end));
            let mut values = Vec::new();
            let place = || format!("tensor {}", printable(&info.name));
            let mut decoder = Decoder::new(info.dtype).at(place())?;
            decoder
                .push(data.unwrap_or_default(), &mut values)
                .at(place())?;
            tensors.insert(info.name.as_str(), (info.shape.as_slice(), values));
        }
        let (dim, classes, num_heads) = (config.embed_dim, config.num_classes, config.num_heads);
        let mut take = |name: &str, wanted: &[usize]| match tensors.remove(name) {
            Some((shape, values)) if shape == wanted => Ok(values),
            Some((shape, _)) => Err(Error::format(format!(
                "tensor {name} has shape {shape:?}, but the configuration needs {wanted:?}"
            ))),
            None => Err(Error::format(format!(
                "holds no head of AIM: tensor {name} is missing"
            ))),
        };
        let head = if header.tensors().iter().any(|info| info.name == MEAN) {
            let has_queries = header.tensors().iter().any(|info| info.name == QUERIES);
            let per_class = if has_queries { num_heads } else { 1 };
            let compact = Compact {
                mean: take(MEAN, &[dim])?,
                queries: if has_queries {
                    take(QUERIES, &[num_heads, dim])?
                } else {
                    Vec::new()
                },
                linear: take(LINEAR, &[classes, per_class, dim])?,
            };
            compact.into_head(num_heads)?
        } else {
            Head {
                kind,
                num_heads,
                running_mean: take("head.bn.running_mean", &[dim])?,
                running_var: take("head.bn.running_var", &[dim])?,
                cls_token: take("head.cls_token", &[1, 1, dim])?,
                k: take("head.k.weight", &[dim, dim])?,
                v: take("head.v.weight", &[dim, dim])?,
                linear: take("head.linear.weight", &[classes, dim])?,
            }
        };
        // The claimed kind may be wrong: what weighs tokens is an attention head.
        let kind = if head.attends() {
            HeadKind::Attention
        } else {
            kind
        };
        let head = Head { kind, ..head };
        if let Some(name) = tensors.keys().next() {
            return Err(Error::format(format!(
                "tensor {} is in no head of AIM",
                printable(name)
            )));
        }
        Ok(Self {
            head,
            config,
            labels,
            trunk,
        })
    }
}

/// The head in a file of this machine; `None` if it is a checkpoint of something else.
///
/// # Errors
/// [`ErrorKind::NotFound`] if it can't be read; [`ErrorKind::Format`] if it is a head, but a
/// damaged one.
#[cfg(not(target_family = "wasm"))]
pub fn open(path: &std::path::Path) -> Result<Option<HeadFile>> {
    use std::io::Read as _;

    let place = || printable(&path.display().to_string());
    let error = |error: std::io::Error| {
        Error::not_found(format!("{}: can't be read: {error}", place())).with_source(error)
    };
    let mut file = std::fs::File::open(path).map_err(error)?;
    let len = file.metadata().map_err(error)?.len();
    // The header alone says what it is.
    let mut bytes = vec![0; usize::try_from(len.min(8)).unwrap_or_default()];
    file.read_exact(&mut bytes).map_err(error)?;
    let Ok(needed) = Header::needed(&bytes, len) else {
        return Ok(None);
    };
    bytes.resize(needed.min(MAX_HEADER), 0);
    file.read_exact(&mut bytes[8..]).map_err(error)?;
    let is_head = Header::parse(&bytes, len).is_ok_and(|header| header.metadata(CONFIG).is_some());
    if !is_head {
        return Ok(None);
    }
    check_len(len).at(place())?;
    file.take(MAX_HEAD).read_to_end(&mut bytes).map_err(error)?;
    HeadFile::from_bytes(&bytes).at(place()).map(Some)
}

/// Refuses a file that is too long for a head: it is held in memory whole.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if it is.
pub(crate) fn check_len(len: u64) -> Result<()> {
    if len > MAX_HEAD {
        return Err(Error::unsupported(format!(
            "has {len} bytes, too many for a head"
        )));
    }
    Ok(())
}

/// The most bytes of a head: that of the 7B has 67 MB.
const MAX_HEAD: u64 = 256 << 20;

/// The longest header of a head that is looked at: ten thousand labels are far below it.
#[cfg(not(target_family = "wasm"))]
const MAX_HEADER: usize = 16 << 20;

/// A text as JSON has it.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// Name, type, shape and values.
type Tensor<'a> = (&'a str, Dtype, &'a [usize], &'a [f32]);

/// What the names of a lesson's pictures and features begin with, which the package may put into the same file.
const LESSON: &str = "lesson.";

/// The tensors of a compact head.
const MEAN: &str = "compact.mean";
const QUERIES: &str = "compact.queries";
const LINEAR: &str = "compact.linear";
