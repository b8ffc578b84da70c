//! A plain model that is the same in every run.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::Command,
};

use super::Result;

/// Bytes of one tensor, an F32 matrix [4096, 1024] as large models have them.
const TENSOR_BYTES: u64 = 16 << 20;

/// The tensors' sides.
const SHAPE: [u64; 2] = [4096, 1024];

/// Free space that is asked for, in sizes of the model: it lies there plain, sealed here and
/// sealed by the peer.
const SPACE: u64 = 4;

/// A folder with one `model.safetensors` of numbers that look like weights: no two bodies are the
/// same, and none has a NaN.
pub(super) struct PlainModel(PathBuf);

impl PlainModel {
    /// Writes a model of `bytes` to the new folder.
    pub(super) fn make(folder: &Path, bytes: u64) -> Result<Self> {
        fs::create_dir_all(folder)?;
        demand_space(folder, SPACE * bytes)?;
        let mut out = BufWriter::with_capacity(1 << 20, File::create(folder.join(FILE))?);
        let count = bytes / TENSOR_BYTES;
        let header = header(count);
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        let mut seed = 1_u64;
        for _ in 0..count * TENSOR_BYTES / 8 {
            out.write_all(&two_weights(&mut seed).to_le_bytes())?;
        }
        out.into_inner()?.sync_all()?;
        Ok(Self(folder.to_owned()))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    pub(super) fn file(&self) -> PathBuf {
        self.0.join(FILE)
    }

    pub(super) fn remove(self) -> Result<()> {
        Ok(fs::remove_dir_all(&self.0)?)
    }
}

const FILE: &str = "model.safetensors";

fn header(count: u64) -> String {
    let tensors: serde_json::Map<_, _> = (0..count)
        .map(|index| {
            let (begin, end) = (index * TENSOR_BYTES, (index + 1) * TENSOR_BYTES);
            let entry = serde_json::json!({
                "dtype": "F32", "shape": SHAPE, "data_offsets": [begin, end],
            });
            (format!("layers.{index:04}.weight"), entry)
        })
        .collect();
    let mut json = serde_json::Value::Object(tensors).to_string();
    while !json.len().is_multiple_of(8) {
        json.push(' ');
    }
    json
}

/// Two F32 numbers between -2 and 2: xorshift64 (Marsaglia 2003) with the exponents' top bits off.
fn two_weights(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed & 0xbfff_ffff_bfff_ffff
}

fn demand_space(folder: &Path, bytes: u64) -> Result<()> {
    let output = Command::new("df")
        .args(["--output=avail", "--block-size=1"])
        .arg(folder)
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let free: u64 = text
        .lines()
        .nth(1)
        .ok_or("`df` printed no free space")?
        .trim()
        .parse()?;
    if free < bytes {
        return Err(format!(
            "`{}` has {free} bytes free and this bench needs {bytes}; make room or run it elsewhere",
            folder.display()
        )
        .into());
    }
    Ok(())
}
