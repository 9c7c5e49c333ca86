//! The transport into this process's own namespaces, which takes root as any others do.
use autoprof_plugin::{conformance, prelude::*};

async fn connect(address: &str) -> Result<Arc<dyn Session>, TransportError> {
    let mut registry = Registry::default();
    autoprof_transport_nsenter::register(&mut registry).unwrap();
    let transport = registry.transport("nsenter").unwrap();
    transport.connect(&Host { address: Some(address.to_owned()), ..Host::named("inside") }).await
}

#[tokio::test]
async fn it_keeps_what_a_session_promises() {
    let session = connect(&std::process::id().to_string()).await.unwrap();
    let failed = conformance::failures(&conformance::session(session.as_ref()).await);
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test]
async fn what_is_no_process_is_named() {
    let said = async |address| connect(address).await.err().unwrap().to_string();
    assert_eq!(said("web01").await, "\"web01\" is not the number of a process");
    // The kernel gives no number above 4194304.
    assert_eq!(said("4200000").await, "there is no process 4200000");
}
