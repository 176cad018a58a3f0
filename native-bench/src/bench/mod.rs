//! Measuring, and what is made of it.
//!
//! Each combination of a device, a dtype, threads and probe layers is measured in a process of its own, [`child`]: memory is that
//! of one model alone, rayon's pool has one size, and what ends a device or a process costs one combination.

pub mod chart;
pub mod child;
pub mod row;
pub mod table;
pub mod timing;
