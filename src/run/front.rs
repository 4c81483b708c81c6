//! A proxy in front of a cluster that speaks TLS, which the tool's own client does not.
//!
//! Never: does anything to what passes.

use std::sync::{Arc, Mutex, PoisonError};

use super::plan::Plan;
use super::story::RunError;
use crate::proxy::rule::{Board, Rules};
use crate::proxy::trouble::Listener;
use crate::proxy::{self, Proxy, Tls};
use crate::world::{Chance, Clock};

/// The proxy, and the last trouble that brokers made.
#[derive(Debug)]
pub(super) struct Front {
    proxy: Proxy,
    last: Arc<Mutex<Option<String>>>,
}

impl Front {
    /// Starts one where the plan's brokers speak TLS.
    ///
    /// # Errors
    /// Where a file of it is not what it should be.
    pub(super) fn of(plan: &Plan, clock: &Clock) -> Result<Option<Self>, RunError> {
        let Some(tls) = &plan.broker.tls else { return Ok(None) };
        let bootstrap = plan.broker.bootstrap_server.as_deref().unwrap_or_default().split(',');
        let bootstrap = bootstrap.map(|address| address.trim().parse());
        let bootstrap = bootstrap.collect::<Result<_, proxy::endpoint::BadEndpoint>>();
        let bootstrap = bootstrap.map_err(|error| RunError::Plan(error.to_string()))?;
        let last = Arc::new(Mutex::new(None));
        let told = last.clone();
        let troubles = Listener::new(move |trouble| {
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble.to_string());
        });
        let toward_brokers = Some(tls.read(clock.unix_ms() / 1000)?);
        let plan = proxy::Plan {
            tls: Tls { toward_brokers, toward_clients: None },
            troubles,
            ..proxy::Plan::to(bootstrap)
        };
        // It has no rules, and no chance in it.
        let board = Arc::new(Board::new(Rules::new(Chance::from_seed(0))));
        let proxy = proxy::start(plan, board, None, clock.clone())?;
        Ok(Some(Self { proxy, last }))
    }

    /// The plan as it is behind the proxy.
    pub(super) fn behind(&self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        plan.broker.bootstrap_server = Some(self.proxy.bootstrap());
        plan
    }

    /// Why brokers were not reached, where that is known better here.
    pub(super) fn explained(&self, error: RunError) -> RunError {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (error, last) {
            (RunError::Broker(_) | RunError::Open(_), Some(trouble)) => RunError::Tls(trouble),
            (error, _) => error,
        }
    }
}
