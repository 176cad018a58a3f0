//! From open checkpoint files to a model.

use super::assemble::{Assembler, Loaded};
use super::checkpoint::{Checkpoint, place};
use super::inventory::{Inventory, Located};
use crate::config::Config;
use crate::device::backend::AimBackend;
use crate::error::{At as _, Result};
use crate::precision::Precision;

/// Finds every tensor of the model in the files: for each file, what its tensors are.
///
/// # Errors
/// Those of [`Inventory::take`] and [`Inventory::finish`], with the files' names.
pub fn locate(files: &[Box<dyn Checkpoint>], config: &Config) -> Result<Vec<Vec<Located>>> {
    let mut inventory = Inventory::new(config);
    let located = files
        .iter()
        .map(|file| inventory.take(file.name(), file.tensors()))
        .collect::<Result<_>>()?;
    let names: Vec<&str> = files.iter().map(|file| file.name()).collect();
    inventory.finish().at(names.join(", "))?;
    Ok(located)
}

/// Loads the probe and the first `blocks` blocks: one tensor after the other, each dropped here
/// once its device has it.
///
/// # Errors
/// As [`locate`] and [`Assembler::new`], and [`ErrorKind::Format`](crate::ErrorKind::Format) if a
/// file is broken or a weight is not finite.
pub fn load<B: AimBackend>(
    files: &mut [Box<dyn Checkpoint>],
    config: Config,
    blocks: usize,
    precision: Precision,
    device: &B::Device,
) -> Result<Loaded<B>> {
    let located = locate(files, &config)?;
    let mut model = Assembler::<B>::new(config, blocks, precision, device.clone())?;
    for (file, located) in files.iter_mut().zip(located) {
        for located in located {
            if !located.spec.is_needed(blocks) {
                continue;
            }
            let index = located.index;
            let info = &file.tensors()[index];
            let place = place(file.name(), &info.name);
            let mut tensor = model.begin(located, info).at(&place)?;
            file.read(index, &mut |bytes| tensor.push(bytes).at(&place))?;
            model.add(tensor).at(&place)?;
        }
    }
    model.finish()
}
