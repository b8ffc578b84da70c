//! Whether a worker hosts what the definitions were checked against.

use std::{collections::BTreeMap, sync::Arc};

use sealift_run::message::{KindDescription, PROTOCOL};
use sealift_store::Kinds;

/// The kinds that definitions are checked against, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnownKinds(BTreeMap<String, KindDescription>);

/// Why a worker is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnfitWorker {
    /// It speaks other messages.
    #[error("the worker speaks protocol {0}, the engine {PROTOCOL}; start both from one release")]
    Protocol(u32),
    /// It hosts a kind that the engine does not know.
    #[error("the engine knows no kind `{0}`; start worker and engine from one release")]
    UnknownKind(String),
    /// A kind is not what the definitions were checked against.
    #[error(
        "kind `{kind}` differs in its {part} from what definitions are checked against; start worker and engine from one release"
    )]
    Differs {
        /// The kind.
        kind: String,
        /// What differs.
        part: &'static str,
    },
}

impl KnownKinds {
    /// The description of a kind.
    pub fn get(&self, kind: &str) -> Option<&KindDescription> {
        self.0.get(kind)
    }

    /// Compares what a worker hosts with what is known, and names what it may claim.
    pub(crate) fn admit(
        &self,
        protocol: u32,
        zone: &str,
        hosted: &[KindDescription],
    ) -> Result<Kinds, UnfitWorker> {
        if protocol != PROTOCOL {
            return Err(UnfitWorker::Protocol(protocol));
        }
        for offered in hosted {
            let kind = offered.kind.clone();
            let Some(known) = self.0.get(&kind) else {
                return Err(UnfitWorker::UnknownKind(kind));
            };
            let part = match offered {
                _ if known.zone != zone || known.zone != offered.zone => "zone",
                _ if known.input != offered.input => "input",
                _ if known.output != offered.output => "output",
                _ if known.effectful != offered.effectful => "effects",
                _ => continue,
            };
            return Err(UnfitWorker::Differs { kind, part });
        }
        Ok(Arc::new(
            hosted.iter().map(|offered| offered.kind.clone()).collect(),
        ))
    }
}

impl FromIterator<KindDescription> for KnownKinds {
    fn from_iter<I: IntoIterator<Item = KindDescription>>(kinds: I) -> Self {
        Self(
            kinds
                .into_iter()
                .map(|kind| (kind.kind.clone(), kind))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind() -> KindDescription {
        KindDescription {
            kind: "seal@1".into(),
            zone: "owner".into(),
            effectful: true,
            input: json!({"type": "object"}),
            output: json!({"type": "object"}),
        }
    }

    #[test]
    fn a_worker_with_one_thing_different_is_refused_for_that_thing() {
        let known: KnownKinds = [kind()].into_iter().collect();
        let differs = |part| {
            Err(UnfitWorker::Differs {
                kind: "seal@1".into(),
                part,
            })
        };
        let spoiled = |spoil: fn(&mut KindDescription)| {
            let mut offered = kind();
            spoil(&mut offered);
            known.admit(PROTOCOL, "owner", &[offered])
        };
        assert!(spoiled(|_| ()).is_ok());
        assert_eq!(spoiled(|k| k.zone = "operator".into()), differs("zone"));
        assert_eq!(spoiled(|k| k.input = json!({})), differs("input"));
        assert_eq!(spoiled(|k| k.output = json!({})), differs("output"));
        assert_eq!(spoiled(|k| k.effectful = false), differs("effects"));
        let unknown = Err(UnfitWorker::UnknownKind("x@1".into()));
        assert_eq!(spoiled(|k| k.kind = "x@1".into()), unknown);
        assert_eq!(
            known.admit(PROTOCOL, "operator", &[kind()]),
            differs("zone")
        );
        assert_eq!(
            known.admit(0, "owner", &[kind()]),
            Err(UnfitWorker::Protocol(0))
        );
    }

    #[test]
    fn an_engine_that_knows_no_kinds_serves_no_worker() {
        assert!(
            KnownKinds::default()
                .admit(PROTOCOL, "owner", &[kind()])
                .is_err()
        );
    }
}
