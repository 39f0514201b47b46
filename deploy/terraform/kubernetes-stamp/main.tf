# One stamp as a StatefulSet with a volume, a service and a configuration of
# its own. What deploy/kubernetes/stamp.yaml says by hand.
terraform {
  required_version = ">= 1.6"
  required_providers {
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = ">= 2.30"
    }
  }
}

locals {
  fullname = "slipway-stamp-${var.name}"
  labels   = { app = "slipway-stamp", stamp = var.name }
  config = merge(
    {
      plane  = "stamp"
      name   = var.name
      data   = "/var/lib/slipway"
      hosts  = var.hosts
      listen = { mqtts = ":8883", https = ":8443", amqps = ":5671" }
      join   = { control = var.control_url, tokenFile = "/etc/slipway-join/join-token" }
      log    = { format = "json" }
    },
    length(var.networks) == 0 ? {} : { networks = var.networks },
    var.database_url == "" ? {} : { database = var.database_url },
  )
}

resource "kubernetes_secret_v1" "config" {
  metadata {
    name      = local.fullname
    namespace = var.namespace
  }
  data = {
    "stamp.yaml" = yamlencode(local.config)
    "join-token" = var.join_token
  }
}

resource "kubernetes_service_v1" "stamp" {
  metadata {
    name      = local.fullname
    namespace = var.namespace
  }
  spec {
    type                    = "LoadBalancer"
    external_traffic_policy = "Local"
    selector                = local.labels
    dynamic "port" {
      for_each = { mqtts = [8883, 8883], https = [443, 8443], amqps = [5671, 5671] }
      content {
        name        = port.key
        port        = port.value[0]
        target_port = port.value[1]
      }
    }
  }
}

resource "kubernetes_stateful_set_v1" "stamp" {
  metadata {
    name      = local.fullname
    namespace = var.namespace
  }
  spec {
    replicas     = 1
    service_name = local.fullname
    selector { match_labels = local.labels }
    template {
      metadata { labels = local.labels }
      spec {
        termination_grace_period_seconds = 60
        security_context {
          run_as_non_root = true
          run_as_user     = 65532
          fs_group        = 65532
        }
        container {
          name  = "slipway"
          image = var.image
          args  = ["serve", "stamp", "--config", "/etc/slipway-join/stamp.yaml"]
          dynamic "port" {
            for_each = [8883, 8443, 5671]
            content { container_port = port.value }
          }
          readiness_probe {
            http_get {
              path   = "/healthz"
              port   = 8443
              scheme = "HTTPS"
            }
          }
          resources { requests = var.resources }
          volume_mount {
            name       = "join"
            mount_path = "/etc/slipway-join"
          }
          volume_mount {
            name       = "data"
            mount_path = "/var/lib/slipway"
          }
        }
        volume {
          name = "join"
          secret { secret_name = kubernetes_secret_v1.config.metadata[0].name }
        }
      }
    }
    volume_claim_template {
      metadata { name = "data" }
      spec {
        access_modes = ["ReadWriteOnce"]
        resources { requests = { storage = var.storage } }
      }
    }
  }
}
