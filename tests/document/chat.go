package main

import (
    "context"
    "log"
    "time"
    
    "google.golang.org/grpc"
    "google.golang.org/grpc/credentials"
    pb "example.com/ai-gateway/model"
)

func main() {
    // 建立安全连接
    creds, err := credentials.NewClientTLSFromFile("ca.pem", "")
    if err != nil {
        log.Fatalf("Failed to load credentials: %v", err)
    }
    
    conn, err := grpc.Dial("api.example.com:50051", grpc.WithTransportCredentials(creds))
    if err != nil {
        log.Fatalf("Failed to connect: %v", err)
    }
    defer conn.Close()
    
    // 创建客户端
    client := pb.NewModelServiceClient(conn)
    
    // 调用聊天API
    ctx, cancel := context.WithTimeout(context.Background(), time.Second*10)
    defer cancel()
    
    resp, err := client.CreateChatCompletion(ctx, &pb.ChatCompletionRequest{
        ModelId: "deepseek-v3-14b",
        Messages: []*pb.Message{
            {Role: "system", Content: "你是一个有用的AI助手。"},
            {Role: "user", Content: "你好，请介绍一下自己。"},
        },
        MaxTokens: 500,
        Temperature: 0.7,
    })
    
    if err != nil {
        log.Fatalf("Request failed: %v", err)
    }
    
    log.Printf("Response: %s", resp.Choices[0].Message.Content)
}
