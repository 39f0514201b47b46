variable "name" {
  description = "The stamp's name, as declared with slipway apply or slipway stamp create."
  type        = string
}

variable "hosts" {
  description = "Names by which devices reach it; the first is what they are told."
  type        = list(string)
}

variable "control_url" {
  description = "Control's API, such as https://control.example.com:8443."
  type        = string
}

variable "join_token" {
  description = "From slipway stamp token NAME; used once."
  type        = string
  sensitive   = true
}

variable "image" {
  description = "The container image, built from deploy/Containerfile."
  type        = string
  default     = "slipway:latest"
}

variable "namespace" {
  description = "Where it runs."
  type        = string
  default     = "slipway"
}

variable "storage" {
  description = "Size of its volume."
  type        = string
  default     = "100Gi"
}

variable "resources" {
  description = "What its container asks for."
  type        = map(string)
  default     = { cpu = "2", memory = "4Gi" }
}

variable "database_url" {
  description = "URL of a PostgreSQL database, instead of SQLite on the volume."
  type        = string
  default     = ""
  sensitive   = true
}

variable "networks" {
  description = "Private networks that its routes may reach."
  type        = list(string)
  default     = []
}
