//! Asks for tokens as an ordinary program with azure_identity: one JSON order a line in, one JSON answer a line out.

use azure_core::credentials::TokenCredential;
use azure_identity::{
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
};
use serde_json::{json, Value};
use std::{io::BufRead, sync::Arc};

async fn ask(order: &Value) -> azure_core::Result<String> {
    let credential: Arc<dyn TokenCredential> = if order["managed"].as_bool().unwrap_or(false) {
        let client_id = order["clientId"].as_str().unwrap_or_default().to_string();
        ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
            user_assigned_id: Some(UserAssignedId::ClientId(client_id)),
            ..Default::default()
        }))?
    } else {
        WorkloadIdentityCredential::new(None)?
    };
    let scope = order["scope"].as_str().unwrap_or_default();
    Ok(credential.get_token(&[scope], None).await?.token.secret().to_string())
}

#[tokio::main]
async fn main() {
    for line in std::io::stdin().lock().lines() {
        let order: Value = serde_json::from_str(&line.expect("a line")).expect("a JSON order");
        println!(
            "{}",
            match ask(&order).await {
                Ok(token) => json!({"token": token}),
                Err(error) => json!({"error": format!("{error:?}")}),
            }
        );
    }
}
