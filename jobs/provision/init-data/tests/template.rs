//! From an owner's template to a guest's init-data and back.
#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a test that fails"
)]

use std::collections::{BTreeMap, BTreeSet};

use sealift_evidence::Tee;
use sealift_init_data::{
    InitData, InitDataNotFromTemplate, InitTemplate, OperatorSlots, RegisteredSlots, RenderError,
    SealiftToml, SlotError, SlotPatterns, TemplateError, TemplateParts, TemplateTexts, render,
    rerender_equals,
};
use sealift_signed_document::{Digest, SigningKey, VerifyingKey, parse_canonical, sign};

const IMAGE: &str = "registry.example/sealift-confidential@sha256:\
                     6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
const OTHER_DIGEST: &str = "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a";

const AA_TOML: &str = "\
[token_configs.kbs]
url = \"{{km_url}}\"
";

const CDH_TOML: &str = "\
socket = \"unix:///run/confidential-containers/cdh.sock\"
credentials = []

[kbc]
name = \"cc_kbc\"
url = \"{{km_url}}\"
";

const SEALIFT_TOML: &str = "\
model = \"{{model}}\"
version = \"{{version}}\"
serial = {{serial}}
manifest_sha256 = \"{{manifest_sha256}}\"
km_id = \"{{km_id}}\"
km_url = \"{{km_url}}\"
km_tls_sha256 = \"{{km_tls_sha256}}\"
owner_root = \"{{owner_root}}\"
store_url = \"{{store_url}}\"
template_sha256 = \"{{template_sha256}}\"
";

fn texts(policy_rego: String) -> TemplateTexts {
    TemplateTexts {
        aa_toml: AA_TOML.to_owned(),
        cdh_toml: CDH_TOML.to_owned(),
        policy_rego,
        sealift_toml: SEALIFT_TOML.to_owned(),
    }
}

fn parts() -> TemplateParts {
    let policy = format!(
        "package agent_policy\n\ndefault ExecProcessRequest := false\n\
         default CreateContainerRequest := false\n\n\
         CreateContainerRequest if {{\n    input.storages[0].source == \"{IMAGE}\"\n}}\n"
    );
    TemplateParts {
        texts: texts(policy),
        slots: SlotPatterns {
            km_url: r"^https://[a-z0-9.]+(:[0-9]{1,5})?$".to_owned(),
            store_url: r"^https://models\.example/|s3://models/$".to_owned(),
        },
        images: vec![IMAGE.to_owned()],
        tees: BTreeSet::from([Tee::Snp, Tee::AzSnpVtpm]),
    }
}

fn template() -> InitTemplate {
    InitTemplate::new(parts()).unwrap()
}

fn registered() -> RegisteredSlots {
    RegisteredSlots {
        model: "sentiment".to_owned(),
        version: "2026-11-01".to_owned(),
        serial: 7,
        manifest_sha256: Digest::of(b"manifest"),
        owner_root: VerifyingKey::from_bytes([9; 32]),
        template_sha256: Digest::of(b"template"),
        km_id: VerifyingKey::from_bytes([5; 32]).thumbprint(),
        km_tls_sha256: Digest::of(b"spki"),
    }
}

fn operator() -> OperatorSlots {
    OperatorSlots {
        km_url: "https://km.example:8443".to_owned(),
        store_url: "https://models.example/".to_owned(),
    }
}

fn rendered() -> InitData {
    render(&template(), &registered(), &operator()).unwrap()
}

/// The digest in the README beside the file is `sha256sum`'s.
#[test]
fn the_rendered_bytes_are_the_committed_ones() {
    let committed = include_str!("../../../../tests/vectors/init-data/guest.toml");
    assert_eq!(rendered().as_str(), committed);
    let digest = rendered().digest().to_string();
    let readme = include_str!("../../../../tests/vectors/init-data/README.md");
    assert!(readme.contains(&digest), "{digest}");
}

#[test]
fn a_guest_reads_what_it_is_for() {
    let init_data =
        InitData::accept(rendered().as_bytes(), rendered().digest().as_bytes()).unwrap();
    let sealift = SealiftToml::of(&init_data).unwrap();
    let expected = registered();
    assert_eq!(sealift.model, expected.model);
    assert_eq!(sealift.version, expected.version);
    assert_eq!(sealift.serial, expected.serial);
    assert_eq!(sealift.manifest_sha256, expected.manifest_sha256);
    assert_eq!(sealift.owner_root, expected.owner_root);
    assert_eq!(sealift.template_sha256, expected.template_sha256);
    assert_eq!(sealift.km_id, expected.km_id);
    assert_eq!(sealift.km_tls_sha256, expected.km_tls_sha256);
    assert_eq!(sealift.km_url, operator().km_url);
    assert_eq!(sealift.store_url, operator().store_url);
}

#[test]
fn the_key_manager_finds_rendered_init_data_equal() {
    let proof = rerender_equals(&template(), &registered(), rendered().as_bytes()).unwrap();
    assert_eq!(proof.digest(), rendered().digest());
    assert_eq!(proof.init_data(), &rendered());
    assert_eq!(proof.sealift().store_url, operator().store_url);
}

fn replaced(from: &str, to: &str) -> String {
    let text = rendered().as_str().replacen(from, to, 1);
    assert_ne!(
        text,
        rendered().as_str(),
        "{from:?} is not in the rendered text"
    );
    text
}

/// Each row is what an operator might start a guest with instead.
#[test]
fn init_data_with_one_thing_changed_is_not_from_the_template() {
    let own_digest = IMAGE.rsplit(':').next().unwrap();
    for (name, received) in [
        (
            "one ExecProcessRequest := true",
            replaced("ExecProcessRequest := false", "ExecProcessRequest := true"),
        ),
        ("another image digest", replaced(own_digest, OTHER_DIGEST)),
        ("one more space", replaced("url = ", "url =  ")),
        (
            "one more space at the end of a line",
            replaced("package agent_policy\n", "package agent_policy \n"),
        ),
        (
            "one more newline at the end",
            rendered().as_str().to_owned() + "\n",
        ),
        (
            "one less newline at the end",
            rendered().as_str().trim_end().to_owned(),
        ),
        ("another model", replaced("\"sentiment\"", "\"sentimenu\"")),
        ("another serial", replaced("serial = 7", "serial = 6")),
        (
            "another spelling of the serial",
            replaced("serial = 7", "serial = 0x7"),
        ),
        (
            "another key manager in one text only",
            replaced("https://km.example:8443", "https://km.attacker:8443"),
        ),
        (
            "another owner",
            replaced(
                &registered().owner_root.to_string(),
                &VerifyingKey::from_bytes([8; 32]).to_string(),
            ),
        ),
        ("a comment", replaced("[data]", "[data] # mine")),
        ("another algorithm", replaced("\"sha256\"", "\"sha384\"")),
    ] {
        let result = rerender_equals(&template(), &registered(), received.as_bytes());
        assert!(result.is_err(), "{name}");
    }
}

#[test]
fn init_data_with_one_more_entry_is_not_from_the_template() {
    let mut entries: BTreeMap<String, String> = rendered().entries().clone();
    entries.insert("extra.toml".to_owned(), "x = 1\n".to_owned());
    let surplus = InitData::from_entries(entries.clone()).unwrap();
    let refused = rerender_equals(&template(), &registered(), surplus.as_bytes()).unwrap_err();
    assert!(
        matches!(refused, InitDataNotFromTemplate::Differs { .. }),
        "{refused}"
    );

    entries.remove("extra.toml");
    entries.remove("policy.rego");
    let missing = InitData::from_entries(entries).unwrap();
    let refused = rerender_equals(&template(), &registered(), missing.as_bytes()).unwrap_err();
    assert!(
        matches!(refused, InitDataNotFromTemplate::Differs { .. }),
        "{refused}"
    );
}

#[test]
fn the_first_differing_line_is_named() {
    let changed = replaced("ExecProcessRequest := false", "ExecProcessRequest := true");
    let line = 1 + changed
        .lines()
        .position(|line| line.contains("Exec"))
        .unwrap();
    let refused = rerender_equals(&template(), &registered(), changed.as_bytes()).unwrap_err();
    assert!(
        matches!(refused, InitDataNotFromTemplate::Differs { line: found } if found == line),
        "{refused}"
    );
}

#[test]
fn a_url_that_the_owner_did_not_allow_is_refused() {
    for (km_url, store_url) in [
        ("http://km.example:8443", "https://models.example/"),
        ("https://km.example:8443/x", "https://models.example/"),
        ("https://km.example:8443", "https://models.example/other/"),
        ("https://km.example:8443", "xs3://models/"),
    ] {
        let operator = OperatorSlots {
            km_url: km_url.to_owned(),
            store_url: store_url.to_owned(),
        };
        let refused = render(&template(), &registered(), &operator).unwrap_err();
        assert!(
            matches!(refused, RenderError::Slot(SlotError::Pattern { .. })),
            "{refused}"
        );

        // The same by an operator who writes the init-data without our renderer.
        let everywhere = rendered()
            .as_str()
            .replace(&self::operator().km_url, km_url)
            .replace(
                &format!("\"{}\"", self::operator().store_url),
                &format!("\"{store_url}\""),
            );
        let refused =
            rerender_equals(&template(), &registered(), everywhere.as_bytes()).unwrap_err();
        assert!(
            matches!(refused, InitDataNotFromTemplate::NotRendered(_)),
            "{refused}"
        );
    }
}

/// Even under a pattern that allows everything, no value can end the string it stands in.
#[test]
fn a_slot_value_cannot_end_the_string_it_stands_in() {
    let mut open = parts();
    open.slots = SlotPatterns {
        km_url: "^(?s).*$".to_owned(),
        store_url: "^(?s).*$".to_owned(),
    };
    let open = InitTemplate::new(open).unwrap();
    for value in ["a\"b", "a\nb", "a'''b", "a b", "a\\b", "{{model}}", ""] {
        let operator = OperatorSlots {
            km_url: value.to_owned(),
            ..operator()
        };
        let refused = render(&open, &registered(), &operator).unwrap_err();
        assert!(
            matches!(refused, RenderError::Slot(SlotError::Url { .. })),
            "{value:?}"
        );
    }
    for value in ["A", "a/b", "a\"b", "../a", "", "_a"] {
        let registered = RegisteredSlots {
            model: value.to_owned(),
            ..registered()
        };
        let refused = render(&open, &registered, &operator()).unwrap_err();
        assert!(
            matches!(refused, RenderError::Slot(SlotError::Name { .. })),
            "{value:?}"
        );
    }
    let registered = RegisteredSlots {
        serial: 1 << 63,
        ..registered()
    };
    let refused = render(&open, &registered, &operator()).unwrap_err();
    assert!(matches!(
        refused,
        RenderError::Slot(SlotError::Serial { .. })
    ));
}

#[test]
fn a_template_is_a_signed_document_that_is_checked_when_read() {
    let key = SigningKey::generate();
    let signed = sign(&template(), &key).unwrap();
    let read = signed.verify::<InitTemplate>(&key.public()).unwrap();
    assert_eq!(read.document(), &template());
    assert!(read.document().allows(Tee::Snp));
    assert!(!read.document().allows(Tee::Tdx));

    let json = sealift_signed_document::canonical_json(&template()).unwrap();
    let json = String::from_utf8(json).unwrap();
    parse_canonical::<InitTemplate>(json.as_bytes()).unwrap();
    for spoiled in [
        json.replace("\"tees\":[\"snp\",\"az-snp-vtpm\"]", "\"tees\":[]"),
        json.replace("{{serial}}", "7"),
        json.replace("\"images\":", "\"imajes\":"),
    ] {
        assert_ne!(spoiled, json);
        parse_canonical::<InitTemplate>(spoiled.as_bytes()).unwrap_err();
    }
}

/// Each row is a slip that an owner could sign without noticing.
#[test]
fn a_template_with_one_mistake_is_refused_for_it() {
    let refused = |change: &dyn Fn(&mut TemplateParts)| {
        let mut parts = parts();
        change(&mut parts);
        InitTemplate::new(parts).unwrap_err()
    };
    let error = refused(&|parts| parts.texts.aa_toml.push_str("x = \"{{km_ur}}\"\n"));
    assert!(
        matches!(
            error,
            TemplateError::UnknownSlot {
                entry: "aa.toml",
                ..
            }
        ),
        "{error}"
    );
    let error = refused(&|parts| {
        parts.texts.sealift_toml = parts.texts.sealift_toml.replace("{{km_id}}", "x");
    });
    assert!(
        matches!(error, TemplateError::MissingSlot { slot: "km_id" }),
        "{error}"
    );
    for pattern in ["https://.*", "^https://.*", "https://.*$", ""] {
        let error = refused(&|parts| parts.slots.km_url = pattern.to_owned());
        assert!(
            matches!(error, TemplateError::NotAnchored { slot: "km_url", .. }),
            "{error}"
        );
    }
    let error = refused(&|parts| parts.slots.store_url = "^(.*$".to_owned());
    assert!(
        matches!(
            error,
            TemplateError::Pattern {
                slot: "store_url",
                ..
            }
        ),
        "{error}"
    );
    let error = refused(&|parts| parts.images[0] = "registry.example/image:latest".to_owned());
    assert!(matches!(error, TemplateError::Image { .. }), "{error}");
    let error = refused(&|parts| parts.images[0] = IMAGE.replace("registry", "mirror"));
    assert!(
        matches!(error, TemplateError::ImageNotInPolicy { .. }),
        "{error}"
    );
    let error = refused(&|parts| parts.images.clear());
    assert!(
        matches!(error, TemplateError::ImageNotListed { .. }),
        "{error}"
    );
    let error = refused(&|parts| parts.tees.clear());
    assert!(matches!(error, TemplateError::NoTee), "{error}");
    for rule in [
        "ExecProcessRequest := true\n",
        "default ExecProcessRequest := true\n",
        "ReadStreamRequest = true\n",
        "SetPolicyRequest if {\n  true\n}\n",
        "SetPolicyRequest if true\n",
        "CopyFileRequest { true }\n",
        "default AllowRequestsFailingPolicy := true\n",
    ] {
        let error = refused(&|parts| parts.texts.policy_rego.push_str(rule));
        assert!(
            matches!(error, TemplateError::RequestAllowed { .. }),
            "{rule}: {error}"
        );
    }
}

/// Policies that are generated for a pod have rules for every request, with conditions.
#[test]
fn a_policy_may_allow_a_request_under_conditions() {
    let mut parts = parts();
    parts.texts.policy_rego.push_str(
        "default ReadStreamRequest := false\n\nReadStreamRequest {\n    \
         policy_data.request_defaults.ReadStreamRequest == true\n}\n",
    );
    InitTemplate::new(parts).unwrap();
}

#[test]
fn a_template_without_containers_needs_no_image() {
    let parts = TemplateParts {
        texts: texts("package agent_policy\n".to_owned()),
        images: Vec::new(),
        ..parts()
    };
    let template = InitTemplate::new(parts).unwrap();
    let init_data = render(&template, &registered(), &operator()).unwrap();
    rerender_equals(&template, &registered(), init_data.as_bytes()).unwrap();
}
