//! What takes a model's tensors as they come, in the place of a device.

use aim_web::weights::checkpoint::dtype::Decoder;
use aim_web::weights::checkpoint::tensor_info::TensorInfo;
use aim_web::weights::inventory::Located;
use aim_web::weights::layout::TensorSpec;
use aim_web::weights::load::sink::Sink;
use aim_web::{Error, ErrorKind, Result};

use crate::model::Values;

/// Keeps the values of what the first so many blocks need.
#[derive(Debug)]
pub struct Kept {
    blocks: usize,
    /// Whatever it takes has to be of so many values.
    current: Option<(String, u64, Decoder, Vec<f32>)>,
    /// The values of whole tensors.
    pub values: Values,
}

impl Kept {
    /// Keeps nothing yet.
    pub const fn new(blocks: usize) -> Self {
        Self {
            blocks,
            current: None,
            values: Values::new(),
        }
    }
}

impl Sink for Kept {
    fn wants(&self, spec: &TensorSpec) -> bool {
        spec.is_needed(self.blocks)
    }

    fn begin(&mut self, located: Located, info: &TensorInfo) -> Result<()> {
        assert_eq!(located.spec.shape, info.shape, "the inventory let it pass");
        let decoder = Decoder::new(info.dtype)?;
        // By the model's name, which a wrapper's may stand before.
        self.current = Some((located.spec.name, info.numel(), decoder, Vec::new()));
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let (_, _, decoder, values) = self.current.as_mut().expect("a tensor has begun");
        decoder.push(bytes, values)
    }

    fn end(&mut self) -> Result<()> {
        let (name, numel, decoder, values) = self.current.take().expect("a tensor has begun");
        if decoder.finish()? != numel {
            return Err(Error::new(ErrorKind::Format, "other values than promised"));
        }
        self.values.insert(name, values);
        Ok(())
    }
}
