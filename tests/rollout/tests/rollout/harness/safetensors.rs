//! Reading and writing small safetensors files, also ones that no library would write.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

/// Tensors by name, all F32, in a file of their own.
#[derive(Clone, Debug)]
pub(crate) struct Tensors(Vec<(String, Vec<u64>, Vec<f32>)>);

impl Tensors {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap();
        let data = &bytes[8 + header_bytes..];
        let tensors = header.iter().filter(|(name, _)| *name != "__metadata__");
        let numbers = |value: &Value| -> Vec<u64> {
            value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
        };
        let parsed = tensors.map(|(name, tensor)| {
            assert_eq!(tensor["dtype"], "F32");
            let range = numbers(&tensor["data_offsets"]);
            let (values, rest) = data[range[0] as usize..range[1] as usize].as_chunks();
            assert!(rest.is_empty());
            let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            (name.clone(), numbers(&tensor["shape"]), values)
        });
        Self(parsed.collect())
    }

    pub(crate) fn write(&self, path: &Path) {
        let (mut header, mut data) = (Map::new(), Vec::new());
        for (name, shape, values) in &self.0 {
            let start = data.len();
            data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            header.insert(
                name.clone(),
                json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] }),
            );
        }
        let mut header = serde_json::to_vec(&header).unwrap();
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.extend(data);
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn values(&mut self, name: &str) -> &mut [f32] {
        let found = self.0.iter_mut().find(|(other, ..)| other == name);
        &mut found.unwrap_or_else(|| panic!("there is no tensor `{name}`")).2
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let before = self.0.len();
        self.0.retain(|(other, ..)| other != name);
        assert_eq!(self.0.len() + 1, before, "there is no tensor `{name}`");
    }
}
