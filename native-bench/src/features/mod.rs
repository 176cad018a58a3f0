//! Files of features.
//!
//! | file | idea |
//! |---|---|
//! | `rows.rs` | rows of numbers as `NumPy`'s or as safetensors, whose number is known when all are written |
//! | `metadata.rs` | what the rows are of, as Parquet |
//! | `layout.rs` | where the files lie, and which are complete |

pub mod layout;
pub mod metadata;
pub mod rows;
