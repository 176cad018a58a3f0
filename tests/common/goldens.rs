//! The outputs of the reference in `tests/goldens`, and how to compare with them.

use safetensors::{Dtype, SafeTensors};

/// One output of the reference, whole or as samples.
pub struct Golden {
    /// The flat indices of the values; `None` if all are there.
    indices: Option<Vec<usize>>,
    values: Vec<f32>,
    largest: f32,
}

/// Reads `name` from the file of a case.
pub fn read(case: &str, name: &str) -> Option<Golden> {
    let bytes = file(&format!("{case}.safetensors"));
    let file = SafeTensors::deserialize(&bytes).expect("a golden is a safetensors file");
    if let Ok(tensor) = file.tensor(name) {
        assert_eq!(tensor.dtype(), Dtype::F32);
        let values = f32s(tensor.data());
        return Some(Golden {
            largest: values.iter().fold(0.0, |largest, v| largest.max(v.abs())),
            indices: None,
            values,
        });
    }
    let indices = file.tensor(&format!("{name}.idx")).ok()?;
    let values = file
        .tensor(&format!("{name}.val"))
        .expect("samples have values");
    let stats = file
        .tensor(&format!("{name}.stats"))
        .expect("samples have statistics");
    let largest = f64::from_le_bytes(stats.data()[16..24].try_into().expect("eight bytes"));
    Some(Golden {
        indices: Some(
            indices
                .data()
                .chunks_exact(4)
                .map(|b| u32::from_le_bytes(b.try_into().expect("four bytes")) as usize)
                .collect(),
        ),
        values: f32s(values.data()),
        largest: largest as f32,
    })
}

#[cfg(not(target_family = "wasm"))]
fn file(name: &str) -> Vec<u8> {
    // Where the tests run, which need not be where they were built: pkg-scripts/gpu-report.sh carries them.
    let root = std::env::var_os("CARGO_MANIFEST_DIR");
    let root = root.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let path = std::path::Path::new(&root).join("tests/goldens").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A browser has no files: they are in the test.
#[cfg(target_family = "wasm")]
fn file(name: &str) -> Vec<u8> {
    static GOLDENS: include_dir::Dir<'_> =
        include_dir::include_dir!("$CARGO_MANIFEST_DIR/../goldens");
    let file = GOLDENS.get_file(name);
    file.unwrap_or_else(|| panic!("tests/goldens has no {name}"))
        .contents()
        .to_vec()
}

impl Golden {
    /// `max |ours - reference| / max |reference|`
    pub fn error(&self, ours: &[f32]) -> f32 {
        let ours: Vec<f32> = match &self.indices {
            Some(indices) => indices.iter().map(|&i| ours[i]).collect(),
            None => ours.to_vec(),
        };
        relative_error(&ours, &self.values, self.largest)
    }

    /// The five largest values of each row, the largest first.
    pub fn top_5(&self, columns: usize) -> Vec<Vec<usize>> {
        top_5(&self.values, columns)
    }
}

/// `max |a - b| / largest`; a NaN on our side is infinitely far off.
pub fn relative_error(ours: &[f32], reference: &[f32], largest: f32) -> f32 {
    assert_eq!(ours.len(), reference.len());
    let off = ours.iter().zip(reference).map(|(a, b)| (a - b).abs());
    off.fold(0.0, |worst: f32, off| {
        if off.is_nan() {
            f32::INFINITY
        } else {
            worst.max(off)
        }
    }) / largest
}

/// The five largest values of each row, the largest first.
pub fn top_5(values: &[f32], columns: usize) -> Vec<Vec<usize>> {
    values
        .chunks_exact(columns)
        .map(|row| {
            let mut order: Vec<usize> = (0..columns).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            order.truncate(5);
            order
        })
        .collect()
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().expect("four bytes")))
        .collect()
}
