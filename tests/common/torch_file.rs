//! A checkpoint as `torch.save` would write it.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use aim_web::weights::checkpoint::Checkpoint;
use aim_web::weights::checkpoint::torch::write::{Entry, TorchWriter};
use aim_web::{Error, ErrorKind};

/// Writes the tensors whose names are wanted, in the order of the reference's state dict, in which the probe comes
/// last.
pub fn write(path: &Path, from: &mut dyn Checkpoint, is_wanted: impl Fn(&str) -> bool) {
    let tensors = from.tensors().to_vec();
    let mut order: Vec<usize> = (0..tensors.len())
        .filter(|&i| is_wanted(&tensors[i].name))
        .collect();
    order.sort_by_key(|&i| tensors[i].name.starts_with("head."));
    let entries: Vec<Entry<'_>> = order
        .iter()
        .map(|&i| Entry {
            name: &tensors[i].name,
            dtype: tensors[i].dtype,
            shape: &tensors[i].shape,
        })
        .collect();
    let file = BufWriter::new(File::create(path).unwrap());
    let root = path.file_stem().unwrap().to_str().unwrap();
    let mut writer = TorchWriter::new(file, root, &entries).unwrap();
    for index in order {
        writer
            .storage(|to| {
                from.read(index, &mut |piece| {
                    to.write_all(piece)
                        .map_err(|error| Error::new(ErrorKind::Option, error.to_string()))
                })
                .map_err(io::Error::other)
            })
            .unwrap();
    }
    writer.finish().unwrap();
}
