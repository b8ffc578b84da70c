//! `assess@1`: decides which tensors get which protection.
//!
//! Leaves `protection-plan.json` in the run's artifacts and nothing elsewhere; undo removes it.

mod answer_room;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use sealift_job::{Job, JobContext, JobError, UndoError};
use sealift_lora_adapter::MergedModel;
use sealift_protection_plan::{EncryptedCost, HeadProtection, Model, PlanFile};
use serde::{Deserialize, Serialize};

/// File name of the plan in a run's artifacts.
const PLAN_FILE: &str = "protection-plan.json";

/// Which model, and how its output head is to be protected.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Folder with `config.json` and `model.safetensors` (or its index).
    pub model: PathBuf,
    /// How the output layer is protected, all of its heads alike; everything else is `sealed`.
    pub head: Head,
    /// Folder of the batch that is going to be scored: one without room for the model's answers is
    /// refused before anything is sealed.
    #[serde(default)]
    pub batch: Option<PathBuf>,
}

/// How the output layer is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Head {
    /// Homomorphically: the guest never sees it.
    Fhe,
    /// Like the rest: an attested guest holds it.
    Sealed,
}

/// The plan.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Where the plan is, and what it is.
    pub plan: Plan,
    /// Tensors by their protection.
    pub tensors: Tensors,
}

/// A plan file and its digest.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the file, hex.
    pub sha256: String,
}

/// Tensors by their protection.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tensors {
    /// Published as they are.
    pub plain: u64,
    /// Encrypted under a key that an attested guest receives.
    pub sealed: u64,
    /// Evaluated while encrypted.
    pub fhe: u64,
}

/// `assess@1`.
#[derive(Debug)]
pub struct Assess;

impl Job for Assess {
    const KIND: &'static str = "assess@1";
    const EFFECTFUL: bool = false;

    type Input = Input;
    type Output = Output;

    async fn run(&self, input: &Input, context: &JobContext) -> Result<Output, JobError> {
        let (plan, cost) = plan(input)?;
        if let Some(batch) = &input.batch {
            answer_room::check(batch, &plan.output, input.head)?;
        }
        let counts = plan.counts();
        context.log(format!(
            "{} tensors: {} plain, {} sealed, {} fhe",
            plan.tensors.len(),
            counts.plain,
            counts.sealed,
            counts.fhe
        ));
        if let Some(adapter) = &plan.adapter {
            context.log(format!(
                "the adapter {} is merged into the output layer",
                adapter.weights_sha256
            ));
        }
        if let Some(cost) = cost {
            context.log(format!(
                "the encrypted layer `{}` ({} inputs, {} outputs) will take {} bytes published, {} \
                 bytes of guest memory and {} bytes per row to the key manager, at {:.0} bits of \
                 security",
                plan.output.layer,
                cost.d_in,
                cost.d_out,
                cost.published_bytes,
                cost.guest_bytes,
                cost.row_bytes,
                cost.security_bits
            ));
        }
        let kept = keep(&plan, context)?;
        let tensors = Tensors {
            plain: counts.plain,
            sealed: counts.sealed,
            fhe: counts.fhe,
        };
        Ok(Output {
            plan: kept,
            tensors,
        })
    }

    async fn undo(
        &self,
        _input: &Input,
        _output: Option<&Output>,
        context: &JobContext,
    ) -> Result<(), UndoError> {
        let path = context.artifacts().join(PLAN_FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(UndoError::new(
                format!("the file `{}`", path.display()),
                error,
            )),
            _ => Ok(()),
        }
    }
}

/// The plan, and what the head costs where it is encrypted.
pub fn plan(input: &Input) -> Result<(PlanFile, Option<EncryptedCost>), JobError> {
    let folder = &input.model;
    let (config, tokenizer) = small_files(folder)?;
    let opened = open_model(folder)?;
    let source = opened.source();
    let head = match input.head {
        Head::Fhe => HeadProtection::Fhe,
        Head::Sealed => HeadProtection::Sealed,
    };
    let planned = Model::read(&config, tokenizer.as_deref()).and_then(|model| {
        let plan = model
            .plan(source, head)?
            .with_adapter(opened.adapter().copied());
        let cost = match head {
            HeadProtection::Fhe => Some(model.encrypted_cost(source)?),
            HeadProtection::Sealed => None,
        };
        Ok((plan, cost))
    });
    planned.map_err(|error| {
        let remedy = "see which models and heads README.md lists";
        JobError::permanent(
            format!("plan the protection of `{}`", folder.display()),
            remedy,
            error,
        )
    })
}

/// `config.json`, and `tokenizer.json` where the folder has one.
fn small_files(folder: &Path) -> Result<(Vec<u8>, Option<Vec<u8>>), JobError> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(|error| (path, error))
    };
    let failed = |(path, error): (PathBuf, io::Error)| {
        let remedy = "name a folder with config.json and model.safetensors as `model`";
        JobError::permanent(format!("read `{}`", path.display()), remedy, error)
    };
    let config = read("config.json").map_err(failed)?;
    match read("tokenizer.json") {
        Ok(tokenizer) => Ok((config, Some(tokenizer))),
        Err((_, error)) if error.kind() == io::ErrorKind::NotFound => Ok((config, None)),
        Err(error) => Err(failed(error)),
    }
}

/// Opens the weights of a model folder, with its adapter merged in.
fn open_model(folder: &Path) -> Result<MergedModel, JobError> {
    MergedModel::open(folder).map_err(|error| {
        let remedy = "check that the download or export of the model is complete";
        JobError::permanent(
            format!("open the model `{}`", folder.display()),
            remedy,
            error,
        )
    })
}

fn keep(plan: &PlanFile, context: &JobContext) -> Result<Plan, JobError> {
    let path = context.artifacts().join(PLAN_FILE);
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        JobError::transient(format!("write `{}`", path.display()), error)
    };
    let bytes = plan.to_bytes().map_err(|error| failed(error.into()))?;
    let sha256 = plan
        .digest()
        .map_err(|error| failed(error.into()))?
        .to_string();
    fs::write(&path, bytes).map_err(|error| failed(error.into()))?;
    Ok(Plan { path, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/fixtures/models")
            .join(name)
    }

    async fn assess(model: PathBuf, head: Head) -> Result<Output, JobError> {
        let folder = tempfile::tempdir().unwrap();
        Assess
            .run(
                &Input {
                    model,
                    head,
                    batch: None,
                },
                &JobContext::detached(folder.path(), 0),
            )
            .await
    }

    #[tokio::test]
    async fn the_head_is_encrypted_and_everything_else_is_sealed() {
        let output = assess(fixture("breast-cancer-mlp"), Head::Fhe)
            .await
            .unwrap();
        assert_eq!(
            output.tensors,
            Tensors {
                plain: 0,
                sealed: 2,
                fhe: 2
            }
        );
        let output = assess(fixture("tiny-bert-sentiment"), Head::Sealed)
            .await
            .unwrap();
        assert_eq!(output.tensors.fhe, 0);
    }

    #[tokio::test]
    async fn a_head_over_raw_features_is_not_encrypted() {
        let error = assess(fixture("breast-cancer-logreg"), Head::Fhe)
            .await
            .unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("raw features"), "{cause}");
        assess(fixture("breast-cancer-logreg"), Head::Sealed)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn the_plan_names_the_adapter_that_is_merged() {
        for case in ["linear", "heads"] {
            let model = fixture("../../vectors/peft-lora").join(case);
            let folder = tempfile::tempdir().unwrap();
            let input = Input {
                model: model.clone(),
                head: Head::Sealed,
                batch: None,
            };
            let context = JobContext::detached(folder.path(), 0);
            let output = Assess.run(&input, &context).await.unwrap();
            let plan = PlanFile::parse(&fs::read(&output.plan.path).unwrap()).unwrap();
            let merged = MergedModel::open(&model).unwrap();
            assert!(merged.adapter().is_some());
            assert_eq!(plan.adapter.as_ref(), merged.adapter());
        }
    }

    #[tokio::test]
    async fn several_heads_are_protected_alike() {
        let model = || fixture("digits-multitask");
        let output = assess(model(), Head::Fhe).await.unwrap();
        assert_eq!((output.tensors.sealed, output.tensors.fhe), (2, 4));
        let output = assess(model(), Head::Sealed).await.unwrap();
        assert_eq!((output.tensors.sealed, output.tensors.fhe), (6, 0));
    }

    /// A copy of the model with two heads under another configuration of its heads.
    async fn assessed_with_heads(heads: serde_json::Value) -> JobError {
        let folder = tempfile::tempdir().unwrap();
        let from = fixture("digits-multitask");
        let weights = "model.safetensors";
        fs::copy(from.join(weights), folder.path().join(weights)).unwrap();
        let config = fs::read(from.join("config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        config["heads"] = heads;
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let assessed = assess(folder.path().to_owned(), Head::Fhe).await;
        assessed.unwrap_err()
    }

    fn told(error: &JobError) -> String {
        let mut told = Vec::new();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            told.push(error.to_string());
            cause = error.source();
        }
        told.join(": ")
    }

    fn two_labels() -> serde_json::Value {
        serde_json::json!({"0": "even", "1": "odd"})
    }

    #[tokio::test]
    async fn heads_whose_name_repeats_are_refused() {
        let head = serde_json::json!({"name": "parity", "id2label": two_labels()});
        let told = told(&assessed_with_heads(serde_json::json!([head, head])).await);
        assert!(told.contains("two heads are named `parity`"), "{told}");
    }

    #[tokio::test]
    async fn a_head_without_labels_is_refused() {
        for head in [
            serde_json::json!({"name": "parity", "id2label": {}}),
            serde_json::json!({"name": "parity"}),
        ] {
            let error = assessed_with_heads(serde_json::json!([head])).await;
            assert!(
                told(&error).contains("names no output layer"),
                "{}",
                told(&error)
            );
        }
    }

    #[tokio::test]
    async fn a_head_with_a_tensor_of_another_shape_is_refused() {
        let head = serde_json::json!({"name": "digit", "id2label": two_labels()});
        let told = told(&assessed_with_heads(serde_json::json!([head])).await);
        assert!(
            told.contains("`heads.digit.weight` of the output layer has 10 rows"),
            "{told}"
        );
    }

    #[tokio::test]
    async fn an_adapter_of_an_inner_layer_is_not_planned() {
        let error = assess(fixture("../../vectors/peft-lora/inner"), Head::Fhe)
            .await
            .unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("not of the output layer"), "{cause}");
    }

    #[tokio::test]
    async fn a_folder_without_a_model_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = assess(folder.path().to_owned(), Head::Sealed)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("config.json"), "{error}");
        assert!(error.remedy().is_some());
    }

    #[tokio::test]
    async fn undo_finds_nothing_or_removes_the_plan() {
        let folder = tempfile::tempdir().unwrap();
        let context = JobContext::detached(folder.path(), 0);
        let input = Input {
            model: fixture("breast-cancer-mlp"),
            head: Head::Sealed,
            batch: None,
        };
        Assess.undo(&input, None, &context).await.unwrap();
        let output = Assess.run(&input, &context).await.unwrap();
        Assess.undo(&input, Some(&output), &context).await.unwrap();
        assert!(!output.plan.path.exists());
    }
}
