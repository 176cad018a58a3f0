//! From open checkpoint files to what takes their tensors.
//!
//! | file | idea |
//! |---|---|
//! | [`sink`] | what takes tensors as they arrive |
//! | [`feed`] | the bytes of a record to the sink, tensor by tensor |
//! | [`fingerprint`] | a hash over the tensors that pass |
//! | [`trunk_hash`] | by what a head knows the trunk below it |
//! | [`assemble`] | one tensor after the other to parameters on the device, quantised on the way |

pub mod assemble;
pub mod feed;
pub mod fingerprint;
pub mod sink;
pub mod trunk_hash;

use self::sink::Sink;
use crate::config::Config;
use crate::error::{At as _, Result};
use crate::weights::checkpoint::{Checkpoint, place};
use crate::weights::inventory::{Inventory, Located};

/// Finds every tensor of the model in the files: for each file, what its tensors are.
///
/// # Errors
/// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if a tensor of the model is in no file, [`ErrorKind::Format`](crate::ErrorKind::Format) if one is of no such model, is there twice, or
/// has another shape. They name the files.
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

/// Reads the tensors that `sink` wants, in the order of the files.
///
/// # Errors
/// As [`locate`]; [`ErrorKind::Format`](crate::ErrorKind::Format) if a file is broken, [`ErrorKind::Integrity`](crate::ErrorKind::Integrity) if it can't be read or its bytes are not those of its
/// hash; and what the sink returns. They name the file and the tensor.
pub fn load(files: &mut [Box<dyn Checkpoint>], config: &Config, sink: &mut dyn Sink) -> Result<()> {
    let located = locate(files, config)?;
    for (file, located) in files.iter_mut().zip(located) {
        for located in located {
            if !sink.wants(&located.spec) {
                continue;
            }
            let index = located.index;
            let info = &file.tensors()[index];
            let place = place(file.name(), &info.name);
            sink.begin(located, info).at(&place)?;
            file.read(index, &mut |bytes| sink.push(bytes).at(&place))?;
            sink.end().at(&place)?;
        }
    }
    Ok(())
}
