//! Models and rows of `tests/fixtures`, and definitions of `definitions/`.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A model of `tests/fixtures/models` with the definition that rolls it out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Model {
    pub(crate) name: &'static str,
    definition: &'static str,
}

/// 30–16–2, 171 rows.
pub(crate) const TABULAR: Model = Model {
    name: "breast-cancer-mlp",
    definition: "tabular-scoring.yaml",
};

/// Two layers of BERT, 500 sentences.
pub(crate) const TINY_BERT: Model = Model {
    name: "tiny-bert-sentiment",
    definition: "sentiment-rollout.yaml",
};

/// Two layers of a Llama decoder with 3,000 tokens, 8 texts or more.
pub(crate) const TINY_LLAMA: Model = Model {
    name: "tiny-llama",
    definition: "sentiment-rollout.yaml",
};

/// 64–32 with the heads `digit` and `parity`, 100 rows.
pub(crate) const TWO_HEADS: Model = Model {
    name: "digits-multitask",
    definition: "tabular-scoring.yaml",
};

/// A sealed batch, and what its rows should become.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) folder: PathBuf,
    pub(crate) expected: PathBuf,
    pub(crate) rows: usize,
    pub(crate) partitions: usize,
    pub(crate) rows_per_partition: usize,
}

impl Model {
    pub(crate) fn folder(self) -> PathBuf {
        workspace().join("tests/fixtures/models").join(self.name)
    }

    pub(crate) fn definition(self) -> PathBuf {
        workspace().join("definitions").join(self.definition)
    }

    /// Writes the first `count` rows and their expectations into `folder`.
    pub(crate) fn rows(self, count: usize, folder: &Path) -> (PathBuf, PathBuf) {
        let cut = |name: &str| {
            let text = fs::read_to_string(self.folder().join(name)).unwrap();
            let lines: Vec<_> = text.lines().take(count).collect();
            assert_eq!(lines.len(), count, "{name} of {} has fewer rows", self.name);
            let path = folder.join(name);
            fs::write(&path, lines.join("\n") + "\n").unwrap();
            path
        };
        (cut("rows.jsonl"), cut("test.jsonl"))
    }
}

/// The workspace's root.
pub(crate) fn workspace() -> &'static Path {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .and_then(Path::parent);
    root.expect("this package stands in tests/rollout")
}
