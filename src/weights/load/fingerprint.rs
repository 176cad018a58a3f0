//! Which weights a model has: a hash over its tensors, made while they pass.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::sink::Sink;
use crate::config::Config;
use crate::error::Result;
use crate::hex::to_hex;
use crate::weights::checkpoint::tensor_info::TensorInfo;
use crate::weights::inventory::Located;
use crate::weights::layout::{TensorSpec, unwrapped};

/// Hands tensors on to what takes them, and hashes each.
pub struct Fingerprint<'a> {
    inner: &'a mut dyn Sink,
    tensors: BTreeMap<String, [u8; 32]>,
    open: Option<(String, Sha256)>,
}

impl<'a> Fingerprint<'a> {
    /// Before the first tensor.
    pub fn new(inner: &'a mut dyn Sink) -> Self {
        Self {
            inner,
            tensors: BTreeMap::new(),
            open: None,
        }
    }

    /// The SHA-256 over the model's shape and the tensors that came, in hexadecimal digits. It is the same for the
    /// same stored values, in whatever files they lie.
    pub fn finish(self, config: &Config) -> String {
        let mut hash = Sha256::new();
        hash.update(config.to_json());
        for (name, tensor) in self.tensors {
            hash.update(name);
            hash.update([0]);
            hash.update(tensor);
        }
        to_hex(&hash.finalize())
    }
}

impl Sink for Fingerprint<'_> {
    fn wants(&self, spec: &TensorSpec) -> bool {
        self.inner.wants(spec)
    }

    fn begin(&mut self, located: Located, info: &TensorInfo) -> Result<()> {
        let mut hash = Sha256::new();
        hash.update(format!("{:?} {:?} ", info.dtype, info.shape));
        self.open = Some((unwrapped(&info.name).to_owned(), hash));
        self.inner.begin(located, info)
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some((_, hash)) = &mut self.open {
            hash.update(bytes);
        }
        self.inner.push(bytes)
    }

    fn end(&mut self) -> Result<()> {
        if let Some((name, hash)) = self.open.take() {
            self.tensors.insert(name, hash.finalize().into());
        }
        self.inner.end()
    }
}
