//! Addresses of stores.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr, sync::Arc};

use object_store::{
    ObjectStore, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder, path::Path, prefix::PrefixStore,
};
use sealift_model_store::{ModelStore, StoreError};

use crate::HyperConnector;

/// Where a model store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAddress {
    /// A folder: a path, or `file:///path`.
    Folder(PathBuf),
    /// A bucket or container, and a folder in it: `s3://bucket/folder`.
    Cloud {
        /// Whose.
        service: Service,
        /// The bucket's or container's name.
        bucket: String,
        /// Where in it the store begins; empty for its root.
        prefix: Path,
    },
}

/// A cloud's object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `s3://`
    AmazonS3,
    /// `az://`
    AzureBlob,
    /// `gs://`
    GoogleCloudStorage,
}

const SCHEMES: [(&str, Service); 3] = [
    ("s3://", Service::AmazonS3),
    ("az://", Service::AzureBlob),
    ("gs://", Service::GoogleCloudStorage),
];

/// Longest name of a bucket or container in bytes: that of Google with dots, the others have 63.
const BUCKET_BYTES_MAX: usize = 222;

/// Why an address was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not the address of a store; use a path, file:///path, s3://bucket, az://container or gs://bucket, with /folder behind it if wanted"
)]
pub struct StoreAddressError(String);

impl FromStr for StoreAddress {
    type Err = StoreAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || StoreAddressError(text.to_owned());
        // Neither has a meaning here, and passwords are sometimes put before an `@`.
        let plain = |text: &str| !text.contains(['%', '?', '#', '@']);
        if let Some(path) = text.strip_prefix("file://") {
            let folder = path.starts_with('/') && plain(path);
            return folder
                .then(|| Self::Folder(path.into()))
                .ok_or_else(refused);
        }
        for (scheme, service) in SCHEMES {
            if let Some(rest) = text.strip_prefix(scheme) {
                let (bucket, folder) = rest.split_once('/').unwrap_or((rest, ""));
                if !is_bucket(bucket) || !plain(folder) {
                    return Err(refused());
                }
                let prefix = Path::parse(folder).map_err(|_| refused())?;
                return Ok(Self::Cloud {
                    service,
                    bucket: bucket.to_owned(),
                    prefix,
                });
            }
        }
        if text.is_empty() || text.contains("://") {
            return Err(refused());
        }
        Ok(Self::Folder(text.into()))
    }
}

fn is_bucket(name: &str) -> bool {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_')
    };
    (1..=BUCKET_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Cloud {
                service,
                bucket,
                prefix,
            } => {
                let known = SCHEMES.iter().find(|(_, known)| known == service);
                let (scheme, _) = known.expect("every service has a scheme");
                write!(f, "{scheme}{bucket}/{prefix}")
            }
        }
    }
}

/// How to reach the services: names and values as their own tools take them from the environment,
/// such as `AWS_REGION`, `AZURE_STORAGE_ACCOUNT_NAME` or `GOOGLE_SERVICE_ACCOUNT`. Values are
/// secrets and are never shown.
#[derive(Clone, Default)]
pub struct CloudOptions(BTreeMap<String, String>);

impl CloudOptions {
    /// Keeps those of `variables` that concern a store.
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let concerns = |name: &str| {
            ["AWS_", "AZURE_", "GOOGLE_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        };
        Self(
            variables
                .into_iter()
                .filter(|(name, _)| concerns(name))
                .collect(),
        )
    }

    /// Names and values, to hand on to a process of the same zone that opens the store.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Those whose name a builder knows, under that name.
    fn known<K: FromStr>(&self) -> impl Iterator<Item = (K, &String)> {
        self.0
            .iter()
            .filter_map(|(name, value)| Some((name.to_lowercase().parse().ok()?, value)))
    }
}

impl fmt::Debug for CloudOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder.
    #[error("the store's folder cannot be used")]
    Folder(#[source] StoreError),
    /// The service's options.
    #[error(
        "the options of `{address}` do not name a store; set its service's variables (AWS_…, AZURE_…, GOOGLE_…)"
    )]
    Options {
        /// The store.
        address: String,
        /// What is wrong with them.
        #[source]
        source: object_store::Error,
    },
}

impl StoreAddress {
    /// Opens the store. A folder is made if absent; no request is sent yet.
    pub fn open(&self, options: &CloudOptions) -> Result<ModelStore, OpenError> {
        match self {
            Self::Folder(path) => ModelStore::in_folder(path).map_err(OpenError::Folder),
            Self::Cloud { .. } => self.object_store(options).map(ModelStore::new),
        }
    }

    /// The same as an object store, for other objects than models.
    pub fn object_store(&self, options: &CloudOptions) -> Result<Arc<dyn ObjectStore>, OpenError> {
        match self {
            Self::Folder(path) => {
                let store = ModelStore::in_folder(path).map_err(OpenError::Folder)?;
                Ok(store.object_store())
            }
            Self::Cloud {
                service,
                bucket,
                prefix,
            } => {
                let store =
                    bucket_of(*service, bucket, options).map_err(|source| OpenError::Options {
                        address: self.to_string(),
                        source,
                    })?;
                Ok(Arc::new(PrefixStore::new(store, prefix.clone())))
            }
        }
    }
}

fn bucket_of(
    service: Service,
    bucket: &str,
    options: &CloudOptions,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    Ok(match service {
        Service::AmazonS3 => {
            let builder = AmazonS3Builder::new().with_http_connector(HyperConnector);
            let builder = options
                .known()
                .fold(builder, |b, (key, value)| b.with_config(key, value));
            Arc::new(builder.with_bucket_name(bucket).build()?)
        }
        Service::AzureBlob => {
            let builder = MicrosoftAzureBuilder::new().with_http_connector(HyperConnector);
            let builder = options
                .known()
                .fold(builder, |b, (key, value)| b.with_config(key, value));
            Arc::new(builder.with_container_name(bucket).build()?)
        }
        Service::GoogleCloudStorage => {
            let builder = GoogleCloudStorageBuilder::new().with_http_connector(HyperConnector);
            let builder = options
                .known()
                .fold(builder, |b, (key, value)| b.with_config(key, value));
            Arc::new(builder.with_bucket_name(bucket).build()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cloud(service: Service, bucket: &str, prefix: &str) -> StoreAddress {
        StoreAddress::Cloud {
            service,
            bucket: bucket.into(),
            prefix: Path::from(prefix),
        }
    }

    #[test]
    fn addresses_name_folders_and_buckets() {
        for (text, expected) in [
            ("models", StoreAddress::Folder("models".into())),
            ("/a/b", StoreAddress::Folder("/a/b".into())),
            ("file:///a/b", StoreAddress::Folder("/a/b".into())),
            ("s3://models", cloud(Service::AmazonS3, "models", "")),
            ("s3://models/", cloud(Service::AmazonS3, "models", "")),
            (
                "az://models/team/a",
                cloud(Service::AzureBlob, "models", "team/a"),
            ),
            (
                "gs://my.models/x",
                cloud(Service::GoogleCloudStorage, "my.models", "x"),
            ),
        ] {
            let address: StoreAddress = text.parse().unwrap();
            assert_eq!(address, expected, "{text}");
            assert_eq!(address.to_string().parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "s3://",
            "s3:///folder",
            "s3://key:secret@bucket/folder",
            "s3://Bucket",
            "s3://bucket/a//b",
            "s3://bucket/../b",
            "s3://bucket/a?versionId=1",
            "https://models.example/x",
            "file://host/a",
            "file:///a%2e",
        ] {
            let refused = text.parse::<StoreAddress>();
            assert_eq!(refused, Err(StoreAddressError(text.into())), "{text}");
        }
    }

    #[test]
    fn options_show_names_alone() {
        let variables = [("AWS_SECRET_ACCESS_KEY", "hush"), ("HOME", "/root")];
        let options = CloudOptions::from_variables(variables.map(|(n, v)| (n.into(), v.into())));
        assert_eq!(format!("{options:?}"), r#"{"AWS_SECRET_ACCESS_KEY"}"#);
    }

    #[test]
    fn a_service_without_its_options_is_named() {
        let address: StoreAddress = "az://models".parse().unwrap();
        let refused = address.open(&CloudOptions::default()).unwrap_err();
        assert!(refused.to_string().contains("`az://models/`"), "{refused}");
    }
}
