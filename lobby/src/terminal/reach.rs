//! Reaching others: the doctor, and a directory for whoever runs one.

use std::net::SocketAddr;
use std::time::Duration;

use peerflock::directory::{DirectoryAddress, DirectoryOptions, DirectoryService};
use peerflock::doctor::{DoctorOptions, examine_now};

use super::{Trouble, print};
use crate::cli::Common;

/// Says what keeps others from reaching us.
pub(super) fn doctor(
    common: &Common,
    directories: Vec<DirectoryAddress>,
    members: Vec<SocketAddr>,
    json: bool,
) -> Result<(), Trouble> {
    let mut options = DoctorOptions::default();
    if let Some(interface) = &common.interface {
        options = options.interface(interface.clone());
    }
    options = directories.into_iter().fold(options, DoctorOptions::directory);
    options = members.into_iter().fold(options, DoctorOptions::member);
    let diagnosis = examine_now(&options).map_err(Trouble::failed)?;
    if json {
        print::json(&diagnosis);
    } else {
        print::line(diagnosis.to_string().trim_end());
    }
    Ok(())
}

/// Runs a directory until it is ended, or for so long.
pub(super) fn directory(options: DirectoryOptions, host: &str, stay: Option<Duration>) -> Result<(), Trouble> {
    let told = |service: &DirectoryService| {
        print::line(&format!("listening at {}; players add {}", service.local_address(), service.address(host)));
        if let Some(http) = service.http_address() {
            print::line(&format!("http://{http}/health and http://{http}/metrics"));
        }
    };
    DirectoryService::run(options, stay, told).map_err(Trouble::failed)
}
