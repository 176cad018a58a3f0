//! The CPU, through candle's SIMD kernels.
#![allow(deprecated)] // burn 0.21 is the last line that has this backend; see docs/architecture.md.

/// The backend: f32 values, i64 indices.
pub type Cpu = burn_candle::Candle<f32, i64>;

/// Its one device.
pub const fn device() -> burn_candle::CandleDevice {
    burn_candle::CandleDevice::Cpu
}
