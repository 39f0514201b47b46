output "address" {
  description = "Where the load balancer is, for the DNS names of the stamp."
  value       = kubernetes_service_v1.stamp.status[0].load_balancer[0].ingress
}
