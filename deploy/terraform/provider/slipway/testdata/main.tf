terraform {
  required_providers {
    slipway = {
      source  = "slipway/slipway"
      version = "0.0.1"
    }
  }
}

provider "slipway" {}

data "slipway_scope" "this" {}

data "slipway_stamp" "lab" {
  name = slipway_stamp.lab.name
}

output "scope" {
  value = data.slipway_scope.this.id_scope
}

output "region" {
  value = data.slipway_stamp.lab.region
}

resource "slipway_tenant" "acme" {
  name         = "acme"
  display_name = "Acme"
  devices      = 0
}

resource "slipway_environment" "bench" {
  name = "bench"
}

resource "slipway_environment" "lab" {
  name          = "lab"
  display_name  = "Laboratory"
  promotes_from = slipway_environment.bench.name
  promotion = {
    gates = [
      { name = "unit", key = true, tests = { suites = ["unit"] } },
      { name = "soak", soak = { "for" = "48h" } },
    ]
    rollout = {
      waves = [{ share = 0.1, soak = "1h" }, { share = 1 }]
    }
  }
  grants = {
    approvals = 2
    maximum   = "4h"
  }
}

resource "slipway_stamp" "lab" {
  name        = "lab-1"
  environment = slipway_environment.lab.name
  region      = "eu"
  capacity    = 500
  tenants     = [slipway_tenant.acme.name]
}

resource "slipway_enrollment_group" "sensors" {
  name        = "sensors"
  environment = slipway_environment.lab.name
  tenant      = slipway_tenant.acme.name
  attestation = { symmetric_key = {} }
  allocation  = { policy = "weighted", stamps = [slipway_stamp.lab.name] }
  initial_twin = {
    tags    = jsonencode({ batch = "7" })
    desired = <<-EOT
      { "reportEvery":   10 }
    EOT
  }
}

resource "slipway_enrollment" "one" {
  name        = "one-device"
  environment = slipway_environment.lab.name
  attestation = {
    symmetric_key = {
      primary_key   = "c2xpcHdheSBkZXZpY2Uga2V5IG9mIHRoaXJ0eXR3byE="
      secondary_key = "c2xpcHdheSBkZXZpY2Uga2V5IG9mIHRoaXJ0eXR3bz8="
    }
  }
}

resource "slipway_route" "hot" {
  name        = "hot"
  environment = slipway_environment.lab.name
  where       = "$body.t > 40"
  enrich      = { stamp = "$stamp" }
  endpoint = {
    nats = {
      url      = "tls://nats.example.com:4222"
      subject  = "devices.$device"
      user     = "slipway"
      password = "correct-horse"
    }
  }
}

resource "slipway_flag" "dashboard" {
  name            = "dashboard"
  state           = "ENABLED"
  variants        = { on = "true", off = "false" }
  default_variant = "off"
  metadata        = jsonencode({ owner = "web" })
}

resource "slipway_flag_state" "dashboard" {
  environment     = slipway_environment.lab.name
  flag            = slipway_flag.dashboard.name
  default_variant = "on"
  reason          = "tried in the laboratory"
}

resource "slipway_alert_rule" "hot" {
  name     = "lab-hot"
  expr     = "vector(1) > 2"
  for      = "5m"
  severity = "ticket"
  summary  = "It is hot"
}

resource "slipway_receiver" "chat" {
  name     = "lab-chat"
  chat     = { url = "https://chat.example.com/hooks/correct-horse" }
  match    = { severity = "page" }
  disabled = true
}

resource "slipway_on_call" "lab" {
  name   = "lab"
  people = [{ name = "Ada" }, { name = "Grace", contact = "+49 30 1" }]
  from   = "2026-01-05T09:00:00Z"
}

resource "slipway_account" "ada" {
  id   = "ada"
  name = "Ada"
}

resource "slipway_account" "ci" {
  id      = "ci"
  kind    = "service"
  sponsor = slipway_account.ada.id
}

resource "slipway_role_binding" "ci" {
  role         = "developer"
  account      = slipway_account.ci.id
  environments = [slipway_environment.lab.name]
}

resource "slipway_slo" "lab" {
  name      = "lab-commands"
  indicator = "commands"
  objective = 0.99
}
