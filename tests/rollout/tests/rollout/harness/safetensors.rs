//! Reading and writing small safetensors files, also ones that no library would write.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

/// Tensors by name, all F32, in a file of their own.
#[derive(Clone, Debug)]
pub(crate) struct Tensors {
    tensors: Vec<(String, Vec<u64>, Vec<f32>)>,
    tied: Option<(String, String)>,
}

impl Tensors {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Map<String, Value> =
            serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap();
        let data = &bytes[8 + header_bytes..];
        let tensors = header.iter().filter(|(name, _)| *name != "__metadata__");
        let numbers = |value: &Value| -> Vec<u64> {
            value
                .as_array()
                .unwrap()
                .iter()
                .map(|number| number.as_u64().unwrap())
                .collect()
        };
        let parsed = tensors.map(|(name, tensor)| {
            assert_eq!(tensor["dtype"], "F32");
            let range = numbers(&tensor["data_offsets"]);
            let (values, rest) = data[range[0] as usize..range[1] as usize].as_chunks();
            assert!(rest.is_empty());
            let values = values
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect();
            (name.clone(), numbers(&tensor["shape"]), values)
        });
        Self {
            tensors: parsed.collect(),
            tied: None,
        }
    }

    pub(crate) fn write(&self, path: &Path) {
        let (mut header, mut data) = (Map::new(), Vec::new());
        for (name, shape, values) in &self.tensors {
            let start = data.len();
            data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            header.insert(
                name.clone(),
                json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] }),
            );
        }
        if let Some((name, other)) = &self.tied {
            header.insert(name.clone(), header[other].clone());
        }
        let mut header = serde_json::to_vec(&header).unwrap();
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.extend(data);
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn values(&mut self, name: &str) -> &mut [f32] {
        let found = self.tensors.iter_mut().find(|(other, ..)| other == name);
        &mut found
            .unwrap_or_else(|| panic!("there is no tensor `{name}`"))
            .2
    }

    /// Appends rows to a matrix.
    pub(crate) fn extend_rows(&mut self, name: &str, rows: impl IntoIterator<Item = f32>) {
        let found = self.tensors.iter_mut().find(|(other, ..)| other == name);
        let (_, shape, values) = found.unwrap_or_else(|| panic!("there is no tensor `{name}`"));
        values.extend(rows);
        shape[0] = values.len() as u64 / shape[1];
    }

    /// Takes the tensor `name` out, into a file of its own.
    pub(crate) fn split_off(&mut self, name: &str) -> Self {
        let of_name = |(other, ..): &mut (String, _, _)| other == name;
        let tensors: Vec<_> = self.tensors.extract_if(.., of_name).collect();
        assert_eq!(tensors.len(), 1, "there is no tensor `{name}`");
        Self {
            tensors,
            tied: None,
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|(name, ..)| name.as_str())
    }

    /// Writes `name` as a second name of the bytes of `other`.
    pub(crate) fn tie(&mut self, name: &str, other: &str) {
        self.tied = Some((name.to_owned(), other.to_owned()));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let before = self.tensors.len();
        self.tensors.retain(|(other, ..)| other != name);
        assert_eq!(
            self.tensors.len() + 1,
            before,
            "there is no tensor `{name}`"
        );
    }
}
